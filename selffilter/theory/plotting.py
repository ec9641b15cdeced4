"""One look for all figures: colour-blind-safe, labelled on the lines, bands for seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

# Okabe and Ito's palette: distinct for all common kinds of colour blindness.
COLOURS = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "blue": "#0072B2",
    "red": "#D55E00",
    "pink": "#CC79A7",
    "grey": "#7F7F7F",
}

_LABEL_GAP = 0.052
"""Least distance between the names at the ends of lines, in heights of the axes."""

STYLE: Any = {
    "figure.dpi": 100,
    "savefig.dpi": 130,
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "selffilter",
    "svg.fonttype": "none",
}


def new_figure(
    width: float, height: float, columns: int = 1, rows: int = 1
) -> tuple[Figure, list[Axes]]:
    """Return a figure of ``width`` x ``height`` inches and its axes, row by row."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
    return figure, [axes for line in grid for axes in line]


def band(
    axes: Axes,
    x: ArrayLike,
    samples_xs: Sequence[Sequence[float]],
    *,
    colour: str,
    marker: str = "o",
    linestyle: str = "-",
    label: str | None = None,
) -> None:
    """Draw the mean over seeds with a band of two standard errors.

    Args:
        axes: where.
        x: abscissae, (x,).
        samples_xs: the seeds' values at each abscissa; the numbers of seeds may differ.
        colour: a name in `COLOURS`.
        marker: matplotlib marker.
        linestyle: matplotlib line style.
        label: entry for a legend; `label_line` writes on the line instead.
    """
    mean = np.array([np.mean(values) for values in samples_xs])
    error = np.array([standard_error(values) for values in samples_xs])
    axes.plot(
        x,
        mean,
        color=COLOURS[colour],
        marker=marker,
        linestyle=linestyle,
        label=label,
        ms=4,
        lw=1.6,
    )
    low = np.maximum(mean - 2 * error, mean * 1e-3)  # stays drawable on a logarithmic axis
    axes.fill_between(x, low, mean + 2 * error, color=COLOURS[colour], alpha=0.2, lw=0)


def quartile_band(
    axes: Axes,
    x: ArrayLike,
    samples_xs: Sequence[Sequence[float]],
    *,
    colour: str,
    label: str | None = None,
) -> None:
    """Draw the median over seeds with the band between the quartiles."""
    low, middle, high = np.array([np.quantile(v, [0.25, 0.5, 0.75]) for v in samples_xs]).T
    axes.plot(x, middle, color=COLOURS[colour], marker="o", ms=4, lw=1.6, label=label)
    axes.fill_between(x, low, high, color=COLOURS[colour], alpha=0.2, lw=0)


def label_line(
    axes: Axes,
    text: str,
    at: tuple[float, float],
    colour: str,
    offset: tuple[float, float] = (0, 0),
    **style: Any,
) -> None:
    """Write a line's name beside it, offset in points."""
    options: dict[str, Any] = {"ha": "left", "va": "center", "fontsize": 8.5, **style}
    axes.annotate(
        text, at, xytext=offset, textcoords="offset points", color=COLOURS[colour], **options
    )


def name_lines(axes: Axes, ends: Sequence[tuple[str, str, float, float]]) -> None:
    """Write names right of the axes, as near to the lines' ends as leaves them readable.

    Args:
        axes: where.
        ends: name, colour (matplotlib's), and x and y of the end of each line.
    """
    if not ends:
        return
    low, high = axes.get_ylim()
    ordered = sorted(ends, key=lambda end: end[3])
    heights = spaced([(end[3] - low) / (high - low) for end in ordered], _LABEL_GAP)
    for (name, colour, x, y), height in zip(ordered, heights, strict=True):
        axes.annotate(
            name, (x, y), xytext=(1.05, height), textcoords="axes fraction",
            ha="left", va="center", fontsize=8.5, color=colour, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.5, "alpha": 0.5},
        )  # fmt: skip


def spaced(heights: Sequence[float], gap: float) -> list[float]:
    """Move ascending heights apart to at least `gap` and into [0, 1], as little as that takes.

    Neighbours that are too near become a block around their mean; blocks that meet are one. More
    names than there is room for stand out at the top.
    """
    blocks: list[list[float]] = []

    def bottom(block: list[float]) -> float:
        extent = gap * (len(block) - 1)
        return max(0.0, min(math.fsum(block) / len(block) - extent / 2, 1.0 - extent))

    for height in heights:
        blocks.append([height])
        while len(blocks) > 1 and bottom(blocks[-1]) - bottom(blocks[-2]) < gap * len(blocks[-2]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    return [bottom(block) + gap * i for block in blocks for i in range(len(block))]


def thousands(value: float) -> str:
    """Write a number of samples as on an axis: 51 k, 1.28 M."""
    return f"{value / 1e6:g} M" if value >= 1e6 else f"{value / 1e3:g} k" if value else "0"


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of the mean; 0 for a single value."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write ``name.png`` and ``name.svg``; the same figure gives the same bytes."""
    with matplotlib.rc_context(STYLE):
        figure.savefig(folder / f"{name}.png", metadata={"Software": ""})
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
