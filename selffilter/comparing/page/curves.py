"""Arms on their way: means over seeds with bands, and the seeds themselves, over samples seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from selffilter.comparing.arms import Arm
from selffilter.comparing.gather import Gathered
from selffilter.comparing.page.named import about, arm_key
from selffilter.comparing.seeds import spread
from selffilter.plain_text import clipped
from selffilter.reporting.charts import curves
from selffilter.reporting.marks import kind_of
from selffilter.reporting.markup import Markup, element, joined
from selffilter.reporting.progress_of_run import (
    ZERO_SHOT,
    Line,
    Panel,
    Point,
    Progress,
    progress_of,
    thinned,
)

_MOST_PANELS = 15
_LOSS = "loss"
_POINTS_OF_A_PANEL, _FEWEST_POINTS, _MOST_POINTS = 3000, 40, 240
"""Of all runs together; of a run at least, and at most: the page does not grow with the rounds."""


def on_the_way(found: Gathered, metric: str | None) -> Markup | None:
    """Curves over the samples seen; None if no run has measured anything yet."""
    arms = [arm for arm in found.arms if arm.is_runs]
    progress = progress_of_arms(arms, metric)
    if not progress.panels:
        return None
    told = ["Over samples seen."]
    if any(len(arm.sides) > 1 for arm in arms):
        told.append(
            "Thick: the mean over an arm’s seeds, as far as all of them have come; band: one "
            "standard deviation (n − 1) to either side; thin: each seed."
        )
    if alone := [arm.name for arm in arms if len(arm.sides) == 1]:
        told.append(f"One seed, and no band: {', '.join(alone)}.")
    if progress.boundaries:
        told.append("Vertical lines: the end of a round’s training, with its number.")
    charts = [
        element(
            "figure",
            element(
                "h3",
                clipped(panel.title, 80),
                element("span", f" · {panel.note}", class_="what") if panel.note else None,
            ),
            curves(panel, progress),
        )
        for panel in progress.panels
    ]
    return joined(about(*told), arm_key(arms), element("div", charts, class_="charts three"))


def progress_of_arms(arms: Sequence[Arm], metric: str | None = None) -> Progress:
    """Read the curves of all runs, and join those of an arm.

    Args:
        arms: Of runs.
        metric: Of evaluation sets, where they have it.

    Returns:
        A panel for each number, with a line for each arm that has it; the rounds' ends if all runs
        have the same.
    """
    known: dict[_Number, dict[int, list[list[Point]]]] = {}
    boundaries, samples = list[list[tuple[int, int]]](), 0
    for arm in arms:
        for side in arm.sides:
            assert side.run is not None
            progress = progress_of(side.run, metric)
            samples = max(samples, progress.samples)
            boundaries.append(progress.boundaries)
            for number, points in _numbers(progress):
                known.setdefault(number, {}).setdefault(arm.number, []).append(points)
    most = max(_FEWEST_POINTS, min(_MOST_POINTS, _POINTS_OF_A_PANEL // max(1, len(boundaries))))
    panels: dict[_Number, Panel] = {}
    for number, by_arm in known.items():
        names = {arm.number: arm.name for arm in arms}
        lines = [
            _line(names[a], kind_of(a), [thinned(points, most) for points in seeds])
            for a, seeds in by_arm.items()
        ]
        # The parts of a loss that is broken where weights begin anew are one panel.
        whole = replace(number, part=0)
        title, note = _titled(number)
        panel = panels.setdefault(whole, Panel(title, [], note, number.bounds))
        panel.lines.extend(line for line in lines if line.points)
    some = [panel for panel in panels.values() if panel.lines]
    same = all(ends == boundaries[0] for ends in boundaries)
    return Progress(some[:_MOST_PANELS], boundaries[0] if boundaries and same else [], samples)


@dataclass(frozen=True)
class _Number:
    """What a curve is of."""

    panel: str
    name: str
    part: int
    note: str
    bounds: tuple[float, float] | None


def _numbers(progress: Progress) -> list[tuple[_Number, list[Point]]]:
    found = []
    for panel in progress.panels:
        parts: dict[str, int] = {}
        for line in panel.lines:
            part = parts.setdefault(line.name, 0)
            parts[line.name] += 1
            # What is said of a broken loss would tell two arms' panels apart.
            note = "" if line.name == _LOSS else panel.note
            found.append((_Number(panel.title, line.name, part, note, panel.bounds), line.points))
    return found


def _titled(number: _Number) -> tuple[str, str]:
    if number.name == _LOSS:
        return number.panel, ""
    if number.note == ZERO_SHOT:
        return f"{number.panel.removesuffix(', %')}: {number.name}, %", number.note
    return number.name, number.panel


def _line(name: str, kind: str, seeds: Sequence[list[Point]]) -> Line:
    """Return the mean of several seeds' curves, with one standard deviation around it.

    Seeds of an arm are measured at the same samples. Where a restart has moved what is thinned out,
    a curve is read between its points.
    """
    if len(seeds) == 1:
        return Line(name, list(seeds[0]), kind=kind)
    begin = max(points[0][0] for points in seeds)
    end = min(points[-1][0] for points in seeds)
    x_P = np.array([x for x, _ in seeds[0] if begin <= x <= end])
    y_SP = np.stack([np.interp(x_P, *np.array(points).T) for points in seeds])
    spreads = [spread(dict(enumerate(column.tolist()))) for column in y_SP.T]
    return Line(
        name,
        [(float(x), one.mean) for x, one in zip(x_P, spreads, strict=True)],
        kind=kind,
        band=[(one.mean - one.sd, one.mean + one.sd) for one in spreads],
        singles=[list(points) for points in seeds],
    )
