"""Runs and subsets beside each other in pictures. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from selffilter.comparing.arm_numbers import main_metric
from selffilter.comparing.gather import Gathered, Pair
from selffilter.comparing.tables import confident_title, sets_of
from selffilter.rundir.numbers import Row
from selffilter.store import write_atomically
from selffilter.theory.plotting import COLOURS, STYLE, name_lines, new_figure, thousands

_MOST_PANELS = 6
_LINES = ("red", "blue", "green", "black", "orange", "pink", "sky", "grey")
_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1, 1, 1)))
_BINS = 48


def draw(found: Gathered, folder: Path, metric: str | None = None) -> list[Path]:
    """Draw what there is to draw.

    Args:
        found: What was gathered.
        folder: Where the pictures go.
        metric: Of the evaluation sets; None: the first of each.

    Returns:
        The files.
    """
    figures = {"overlap": overlap_figure(found)}
    pairs = [pair for pair in found.pairs if pair.last is not None and len(pair.last.scores_a)]
    if pairs:
        figures["scores"] = scores_figure(pairs[:_MOST_PANELS])
    if len(found.runs) > 1 and (curves := curves_figure(found, metric)) is not None:
        figures["curves"] = curves
    for name, figure in figures.items():
        _write_png(folder / f"{name}.png", figure)
    return [folder / f"{name}.png" for name in figures]


def _write_png(path: Path, figure: Figure) -> None:
    with matplotlib.rc_context(STYLE):
        write_atomically(
            path, lambda file: figure.savefig(file, format="png", metadata={"Software": ""})
        )


def overlap_figure(found: Gathered) -> Figure:
    """Draw how much each two have in common, as Jaccard indices and in samples.

    One panel of all that they keep; where runs keep rows for their score, one of these rows.
    """
    panels = [("all that they keep", found.kept.jaccard_KK, found.kept.overlap_KK)]
    if any(side.keeps_by_score for side in found.sides):
        title = confident_title(found.sides)
        panels.append((title, found.chosen.jaccard_KK, found.chosen.overlap_KK))
    labels = [side.label for side in found.sides]
    size = 1.7 + 0.85 * len(labels)
    figure, axes = new_figure(size * len(panels) + 1.4, size, len(panels))
    for place, (panel, (title, jaccard_KK, overlap_KK)) in enumerate(
        zip(axes, panels, strict=True)
    ):
        _matrix(panel, labels if place == 0 else [label[0] for label in labels], jaccard_KK)
        _cells(panel, jaccard_KK, overlap_KK)
        panel.set_xticks(range(len(labels)), [label[0] for label in labels])
        panel.set_title(f"{title}\nJaccard index, samples in both", loc="left")
    return figure


def _matrix(axes: Axes, labels: Sequence[str], jaccard_KK: NDArray[np.float64]) -> None:
    axes.imshow(jaccard_KK, vmin=0, vmax=1, cmap="Blues")
    axes.set_yticks(range(len(labels)), labels)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _cells(axes: Axes, jaccard_KK: NDArray[np.float64], overlap_KK: NDArray[np.int64]) -> None:
    for i, j in np.ndindex(*jaccard_KK.shape):
        colour = "white" if jaccard_KK[i, j] > 0.6 else "black"
        axes.text(
            j, i, f"{jaccard_KK[i, j]:.2f}\n{overlap_KK[i, j]:,}", ha="center", va="center",
            fontsize=7.5, color=colour,
        )  # fmt: skip


def scores_figure(pairs: Sequence[Pair]) -> Figure:
    """Draw each pair's scores of the same rows against each other, in the last common round.

    Where rows are ranked by their merit, that instead of the score. Dashed: the lowest confident.
    """
    columns = min(3, len(pairs))
    lines = -(-len(pairs) // columns)
    figure, axes = new_figure(4.2 * columns, 3.9 * lines, columns, lines)
    for panel, pair in zip(axes, pairs, strict=False):
        _scores(panel, pair)
    for panel in axes[len(pairs) :]:
        panel.set_visible(False)
    return figure


def _scores(axes: Axes, pair: Pair) -> None:
    alike = pair.last
    assert alike is not None
    x, y = alike.scores_a, alike.scores_b
    # A few rows far away would leave all others a dot.
    limits = [tuple(_wide(np.quantile(z, [0.0005, 0.9995]))) for z in (x, y)]
    inside = np.ones(len(x), bool)
    for z, (low, high) in zip((x, y), limits, strict=True):
        inside &= (z >= low) & (z <= high)
    bins = axes.hexbin(
        x[inside], y[inside], gridsize=_BINS, bins="log", mincnt=1, cmap="viridis", lw=0,
        extent=(*limits[0], *limits[1]),
    )  # fmt: skip
    axes.figure.colorbar(bins, ax=axes, label="rows", shrink=0.8, pad=0.02)
    for threshold, line in zip(alike.thresholds, (axes.axvline, axes.axhline), strict=True):
        if threshold is not None:
            line(threshold, color=COLOURS["red"], ls="--", lw=0.9)
    spearman = "" if alike.spearman is None else f", Spearman {alike.spearman:.3f}"
    axes.set_title(f"round {alike.round}: {len(x):,} rows{spearman}", loc="left")
    axes.set_xlabel(f"{alike.ranked_by[0]} by {pair.a.label}")
    axes.set_ylabel(f"{alike.ranked_by[1]} by {pair.b.label}")


def _wide(limits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Leave some room around limits, and some between them."""
    margin = 0.02 * (limits[1] - limits[0]) or 1e-3
    return limits + np.array([-margin, margin])


def curves_figure(found: Gathered, metric: str | None = None) -> Figure | None:
    """Draw the runs on their way, over the samples seen.

    Returns:
        A panel an evaluation set; where the truth is known, the precision of the confident rows,
        and the AUC of the scores. None if there is nothing of these.
    """
    every = [row for rows in found.numbers.values() for row in rows]
    asked: list[tuple[str | None, str, str, float]] = []
    for set_ in sets_of(found):
        shown = metric or main_metric(every, set_)
        if any(row["set"] == set_ and row["metric"] == shown for row in every):
            asked.append((set_, shown, f"{set_}: {shown.replace('_', ' ')}, %", 100.0))
    of_rounds = {"precision": "clean share of the confident rows", "auc": "AUC of the scores"}
    for key, title in of_rounds.items():
        if any(row["set"] is None and row["metric"] == key for row in every):
            asked.append((None, key, title, 1.0))
    if not asked:
        return None
    asked = asked[:_MOST_PANELS]
    columns = 3 if len(asked) % 3 == 0 else min(2, len(asked))
    lines = -(-len(asked) // columns)
    figure, axes = new_figure(5.3 * columns, 3.1 * lines, columns, lines)
    for panel, (of_set, name, title, scale) in zip(axes, asked, strict=False):
        _curves(panel, found, of_set, name, scale)
        panel.set_title(title, loc="left")
    for panel in axes[len(asked) :]:
        panel.set_visible(False)
    return figure


def _curves(axes: Axes, found: Gathered, set_: str | None, metric: str, scale: float) -> None:
    ends: list[tuple[str, str, float, float]] = []
    for number, side in enumerate(found.runs):
        line = _line(found.numbers[side.letter], set_, metric)
        if not line:
            continue
        turn, colour = divmod(number, len(_LINES))
        style = COLOURS[_LINES[colour]]
        x, y = [seen for seen, _ in line], [scale * value for _, value in line]
        axes.plot(x, y, color=style, ls=_DASHES[turn % len(_DASHES)], marker="o", ms=3.2, lw=1.5)
        ends.append((side.label, style, x[-1], y[-1]))
    name_lines(axes, ends)
    axes.set_xlabel("samples seen")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(lambda value, _: thousands(value))


def _line(rows: Sequence[Row], set_: str | None, metric: str) -> list[tuple[float, float]]:
    points = {
        row["samples_seen"]: row["value"]
        for row in rows
        if (row["set"], row["metric"]) == (set_, metric) and row["samples_seen"] is not None
    }
    return sorted(points.items())
