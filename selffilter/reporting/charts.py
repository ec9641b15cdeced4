"""Curves over samples seen, and distributions. Pure functions from numbers to SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from selffilter.reporting.axes import Axes, chart, label, widened
from selffilter.reporting.marks import colour_of, kind_of, marker
from selffilter.reporting.markup import Child, Markup, element, joined
from selffilter.reporting.progress_of_run import Panel, Progress

_LABELLED_ROUNDS = 12


def key(entries: Sequence[tuple[str, str]]) -> Markup:
    """Return a legend: (class of the mark, name) each; lines have "line" and their kind."""
    return element(
        "p",
        [
            element(
                "span",
                element(
                    "svg", _sample(kind), viewBox="0 0 18 10", class_="mark", aria_hidden="true"
                ),
                name,
            )
            for kind, name in entries
        ],
        class_="key",
    )


def _sample(kind: str) -> Markup:
    if kind.startswith("line"):
        *_, mark = kind.split()
        line = element("path", d="M0 5H18", class_=f"line {colour_of(mark)}")
        return joined(line, marker(mark, 9.0, 5.0))
    if kind == "cross":
        return element("path", d="M5 1l8 8m0 -8l-8 8", class_="cross")
    return element("rect", x=2, y=0, width=14, height=10, class_=kind)


# --- curves ---------------------------------------------------------------------------------


def curves(panel: Panel, progress: Progress) -> Markup:
    """Draw curves over the samples seen, with the rounds' boundaries.

    Behind a curve lies its band; the ones that it is the mean of are thin.
    """
    values = [value for line in panel.lines for _, value in line.points]
    values += [value for ln in panel.lines for one in ln.singles for _, value in one]
    values += [value for line in panel.lines for ends in line.band for value in ends]
    spread = [
        value + side * 2 * error
        for line in panel.lines
        for (_, value), error in zip(line.points, line.errors, strict=False)
        for side in (-1, 1)
    ]
    low, high = widened(min(values + spread), max(values + spread), panel.bounds)
    axes = Axes.over((0.0, float(progress.samples)), (low, high))
    one_kind = len({line.name for line in panel.lines}) == 1
    drawn: list[Child] = []
    for line in panel.lines:
        if line.band:
            there = [(x, high) for (x, _), (_, high) in zip(line.points, line.band, strict=True)]
            back = [(x, low) for (x, _), (low, _) in zip(line.points, line.band, strict=True)]
            area = axes.path([*there, *back[::-1]]) + "Z"
            drawn.append(element("path", d=area, class_=f"around {colour_of(line.kind)}"))
        drawn += [
            element("path", d=axes.path(one), class_=f"thin {colour_of(line.kind)}")
            for one in line.singles
        ]
    for number, line in enumerate(panel.lines):
        kind = line.kind or kind_of(0 if one_kind else number)
        letter = colour_of(kind)
        few = len(line.points) <= 24
        drawn += [
            element(
                "line", x1=axes.x(x), x2=axes.x(x), y1=axes.y(y - 2 * e), y2=axes.y(y + 2 * e),
                class_=f"bar {letter}",
            )
            for (x, y), e in zip(line.points, line.errors, strict=False)
        ]  # fmt: skip
        drawn.append(element("path", d=axes.path(line.points), class_=f"line {letter}"))
        if few:
            drawn += [marker(kind, axes.x(x), axes.y(y)) for x, y in line.points]
    words = "; ".join(f"{ln.name} from {ln.points[0][1]:.3g} to {ln.points[-1][1]:.3g}"
                      for ln in panel.lines)  # fmt: skip
    return chart(
        f"{panel.title} over samples seen: {words}",
        axes.frame(),
        _boundaries(axes, progress.boundaries),
        drawn,
    )


def _boundaries(axes: Axes, boundaries: Sequence[tuple[int, int]]) -> list[Markup]:
    every = max(1, -(-len(boundaries) // _LABELLED_ROUNDS))
    found = []
    for place, (round_, samples) in enumerate(boundaries):
        found.append(axes.rule(float(samples)))
        if place % every == 0:
            x = axes.x(float(samples)) - 3
            found.append(label(x, axes.y.end + 5, str(round_), "end", "soft"))
    return found


# --- distributions --------------------------------------------------------------------------


def distribution(
    title: str,
    low: float,
    high: float,
    areas: Mapping[str, NDArray[np.integer]],
    outlines: Mapping[str, NDArray[np.integer]],
    *,
    threshold: float | None = None,
    x_label: str = "",
) -> Markup:
    """Draw counts in bins of equal width.

    Args:
        title: What it shows.
        low: Lower edge of the first bin.
        high: Upper edge of the last.
        areas: Class → counts (B,), drawn filled, one on the other's shoulders in this order.
        outlines: Class → counts (B,), drawn as steps over them.
        threshold: Where a line goes.
        x_label: Name of the axis.
    """
    stacked = [np.zeros(0)]
    if areas:
        stacked = list(np.cumsum(np.stack(list(areas.values())), axis=0))
    top = max([*(float(c.max(initial=0)) for c in (*stacked, *outlines.values())), 1.0])
    axes = Axes.over((low, high), (0.0, 1.06 * top), bottom=34.0)
    below = np.zeros_like(stacked[-1])
    drawn: list[Child] = []
    for kind, upper in zip(areas, stacked, strict=False):
        drawn.append(element("path", d=_band(axes, low, high, below, upper), class_=f"area {kind}"))
        below = upper
    for kind, counts in outlines.items():
        steps = axes.path(_steps(low, high, counts))
        drawn.append(element("path", d=steps, class_=f"step {kind}"))
    if threshold is not None and low <= threshold <= high:
        drawn.append(axes.rule(threshold, "cut"))
    return chart(title, axes.frame(x_label=x_label, y_about=3), drawn)


def _steps(low: float, high: float, counts: NDArray[np.number]) -> list[tuple[float, float]]:
    edges = np.linspace(low, high, len(counts) + 1).tolist()
    return [
        (x, float(count))
        for left, right, count in zip(edges, edges[1:], counts.tolist(), strict=False)
        for x in (left, right)
    ]


def _band(
    axes: Axes, low: float, high: float, below: NDArray[np.number], upper: NDArray[np.number]
) -> str:
    there = _steps(low, high, upper)
    back = _steps(low, high, below)[::-1]
    return axes.path([*there, *back]) + "Z"
