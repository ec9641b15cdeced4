"""Final numbers of arms: each seed a dot, their mean and spread, and paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from selffilter.comparing.arm_numbers import Measure, paired, plus_minus, points
from selffilter.comparing.arms import Arm, same_start
from selffilter.comparing.gather import Gathered
from selffilter.comparing.page.named import about, arm_name, mark
from selffilter.comparing.seeds import FEWEST_RESAMPLED, Difference
from selffilter.reporting.axes import WIDTH, Scale, brief, chart, label, ticks, widened
from selffilter.reporting.marks import colour_of, kind_of, marker
from selffilter.reporting.markup import Child, Markup, element, joined
from selffilter.reporting.parts import table

_LINE, _LEFT = 26.0, 112.0
_NAME = 16


def final(found: Gathered) -> Markup | None:
    """The arms' final numbers; None where nothing was measured of runs."""
    measures = found.measures
    if not measures:
        return None
    arms = [arm for arm in found.arms if arm.is_runs]
    several = any(len(arm.sides) > 1 for arm in arms)
    told = (
        ["Each run’s last value."]
        if all(side.whole for side in found.runs)
        else [f"Each run’s last value up to round {found.runs[0].round_asked}."]
    )
    if several:
        told.append("Small dots: seeds.")
        told.append("Large mark and bar: their mean, and the standard deviation (n − 1) around it.")
    return joined(
        about(*told),
        element(
            "div",
            [
                element("figure", element("h3", measure.title + ", %" * measure.percent),
                        dots(measure, arms))
                for measure in measures
            ],
            class_="charts two",
        ),
        _means(measures, arms) if several else None,
        _differences(measures, arms, same_start(found.arm_config)),
    )  # fmt: skip


def dots(measure: Measure, arms: Sequence[Arm]) -> Markup:
    """Draw, an arm a line, the value of each seed, their mean and standard deviation."""
    shown = [arm for arm in arms if arm.number in measure.values]
    factor = 100.0 if measure.percent else 1.0
    spreads = measure.spreads
    values = [factor * v for arm in shown for v in measure.values[arm.number].values()]
    for arm in shown:
        if math.isfinite((one := spreads[arm.number]).sd):
            values += [factor * (one.mean - one.sd), factor * (one.mean + one.sd)]
    low, high = widened(min(values), max(values))
    x = Scale(low, high, _LEFT, WIDTH - 14.0)
    height = _LINE * len(shown) + 30.0
    drawn: list[Child] = []
    for tick in ticks(x.low, x.high, 5):
        drawn.append(element("line", x1=x(tick), x2=x(tick), y1=4.0, y2=height - 20, class_="grid"))
        drawn.append(label(x(tick), height - 6, brief(tick), "middle"))
    for place, arm in enumerate(shown):
        y, one, kind = 6.0 + _LINE * (place + 0.5), spreads[arm.number], kind_of(arm.number)
        drawn.append(label(_LEFT - 10, y + 4, _short(arm.name), "end", "word"))
        if math.isfinite(one.sd):
            ends = [x(factor * (one.mean - one.sd)), x(factor * (one.mean + one.sd))]
            drawn.append(
                element("line", x1=ends[0], x2=ends[1], y1=y, y2=y,
                        class_=f"bar wide-bar {colour_of(kind)}")
            )  # fmt: skip
        if one.seeds > 1:
            drawn += [
                element("circle", cx=x(factor * value), cy=y - 7.5, r=2.0,
                        class_=f"dot seed {colour_of(kind)}")
                for value in measure.values[arm.number].values()
            ]  # fmt: skip
        if math.isfinite(one.mean):
            drawn.append(marker(kind, x(factor * one.mean), y, 1.6))
    words = "; ".join(
        f"{arm.name} {plus_minus(spreads[arm.number], percent=measure.percent)}" for arm in shown
    )
    return chart(f"{measure.title}: {words}", drawn, height=height)


def _means(measures: Sequence[Measure], arms: Sequence[Arm]) -> Markup:
    rows: list[list[Child]] = []
    for arm in arms:
        cells = [plus_minus(m.spreads.get(arm.number), percent=m.percent) for m in measures]
        rows.append([arm_name(arm), ", ".join(map(str, arm.seeds)), *cells])
    heads = ["", "seeds", *(m.title + ", %" * m.percent for m in measures)]
    return joined(
        element("h3", "Mean ± standard deviation over seeds"), table(heads, rows, "names two")
    )


def _differences(
    measures: Sequence[Measure], arms: Sequence[Arm], share_start: bool
) -> Markup | None:
    by_number = {arm.number: arm for arm in arms}
    rows: list[list[Child]] = []
    columns = 4
    for measure in measures:
        for one in paired(measure, arms):
            with_bootstrap = not math.isnan(one.difference.bootstrap_interval[0])
            columns = max(columns, 6 if with_bootstrap else 5 if one.difference.seeds > 1 else 4)
            pair = (by_number[one.of], by_number[one.versus])
            rows.append(
                [
                    element("span", mark(pair[0]), pair[0].name, " − ", mark(pair[1]),
                            pair[1].name, class_="named"),
                    measure.title,
                    str(one.difference.seeds),
                    points(one.difference.mean, measure.percent),
                    _interval(one.difference, "t_interval", measure.percent),
                    _interval(one.difference, "bootstrap_interval", measure.percent),
                ]
            )  # fmt: skip
    if not rows:
        alone = (
            "There are no paired differences: no two arms have a seed in common, or the seeds of "
            "one have not come equally far."
        )
        return about(alone) if len(arms) > 1 else None
    heads = ["", "", "seeds", "difference", "95 %, by t", "95 %, bootstrap"]
    return joined(
        element("h3", "Differences, seed by seed"),
        about(
            "Runs of one seed share first weights and order, so an arm is held against another"
            if share_start
            else "An arm is held against another",
            "with the same seeds; percentages in points.",
            "Intervals are of the mean; of many differences one in twenty leaves out 0 by chance."
            if columns > 4
            else "Of one seed there is no interval.",
            f"There is none by the bootstrap: of fewer than {FEWEST_RESAMPLED} seeds it is too "
            "narrow."
            if columns == 5
            else "",
        ),
        table(heads[:columns], [row[:columns] for row in rows], "names two"),
    )


def _interval(found: Difference, which: str, percent: bool) -> str:
    low, high = getattr(found, which)
    if math.isnan(low):
        return "–"
    return f"{points(low, percent)} to {points(high, percent)}"


def _short(name: str) -> str:
    return name if len(name) <= _NAME else name[: _NAME - 1] + "…"
