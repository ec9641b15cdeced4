"""An experiment in pictures: what came out, and how it came about. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from selffilter.experiments.comparing import ORACLE, UNIFORM
from selffilter.theory.plotting import COLOURS, name_lines, new_figure, thousands

Row = Mapping[str, Any]

_FIRST = {"loop": "red", UNIFORM: "black", ORACLE: "green", "uniform_equal_compute": "grey"}
"""Colours of the methods that every comparison is about; the others take what is left, in turn."""
_REST = ("blue", "orange", "pink", "sky")
_DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1, 1, 1)))


@dataclass(frozen=True)
class Look:
    """How a method is drawn: the same in every panel."""

    colour: str
    dashes: Any
    marker: str
    width: float


def looks(methods: Sequence[str]) -> dict[str, Look]:
    """Return each method's look; colours repeat with other dashes and markers."""
    given = {m: Look(COLOURS[c], "-", "o", 2.0) for m, c in _FIRST.items() if m in methods}
    others = [method for method in methods if method not in given]
    for number, method in enumerate(others):
        turn, colour = divmod(number, len(_REST))
        dashes = _DASHES[(turn + 1) % len(_DASHES)]
        given[method] = Look(COLOURS[_REST[colour]], dashes, "s^Dv"[turn % 4], 1.3)
    return given


def pool_figure(
    results: Sequence[Row],
    rounds: Sequence[Row],
    *,
    pool: str,
    set_: str,
    metric: str,
    methods: Sequence[str],
    scored_by_themselves: Sequence[str],
) -> Figure:
    """Draw one pool.

    Args:
        results: Rows of `collecting.RESULTS`.
        rounds: Rows of `collecting.ROUNDS`.
        pool: Which pool.
        set_: Evaluation set of the primary metric.
        metric: The primary metric.
        methods: In the order of the tables.
        scored_by_themselves: Those whose scores are their own model's: AUC and precision of
            given scores (an oracle's, random ones) say nothing.

    Returns:
        Panels: the metric by method, and over samples seen; where the truth is known, AUC and
        precision over the rounds.
    """
    here = [r for r in results if (r["pool"], r["set"], r["metric"]) == (pool, set_, metric)]
    over = [r for r in rounds if r["pool"] == pool]
    there = [m for m in methods if any(r["method"] == m for r in here)]
    look = looks(list(methods))
    selection = {
        name: [
            r
            for r in over
            if r["set"] is None and r["metric"] == name and r["method"] in scored_by_themselves
        ]
        for name in ("auc", "precision")
    }
    known = any(selection.values())
    left_height = 0.27 * len(there) + 1.1
    height = max(3.4, left_height)
    figure, axes = new_figure(11.5, height + (3.1 if known else 0), 2, 2 if known else 1)
    name = metric.replace("_", " ")
    _dots(axes[0], here, there, look)
    axes[0].set_title(f"{set_}: {name}, %", loc="left")
    measured = [r for r in over if r["set"] == set_ and r["metric"] == metric]
    _curves(axes[1], measured, there, look, "samples_seen", 100.0)
    axes[1].set_title(f"{name}, %, on the way", loc="left")
    axes[1].set_xlabel("samples seen (means over seeds)")
    axes[1].xaxis.set_major_formatter(lambda value, _: thousands(value))
    if known:
        titles = {
            "auc": "AUC of a round's scores against the planted truth",
            "precision": "clean share of the confident rows",
        }
        for panel, (name, title) in zip(axes[2:], titles.items(), strict=True):
            _curves(panel, selection[name], there, look, "round", 1.0)
            panel.set_title(title, loc="left")
            panel.set_xlabel("round")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _dots(
    axes: Axes, rows: Sequence[Row], methods: Sequence[str], look: Mapping[str, Look]
) -> None:
    """Draw a dot a seed, and mean ± standard deviation, a line a method."""
    for place, method in enumerate(methods):
        own = [r for r in rows if r["method"] == method]
        values = 100 * np.array([r["value"] for r in sorted(own, key=lambda r: r["seed"])])
        style = look[method]
        spread = values.std(ddof=1) if len(values) > 1 else 0.0
        shift = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else np.zeros(1)
        axes.scatter(values, place + shift, s=13, color=style.colour, alpha=0.45, lw=0, zorder=3)
        axes.errorbar(
            values.mean(), place, xerr=spread or None, fmt=style.marker, ms=5.5, lw=1.6,
            color=style.colour, zorder=4,
        )  # fmt: skip
    _mark_ends(axes, rows, look)
    axes.set_yticks(range(len(methods)), [method.replace("_", " ") for method in methods])
    for label, method in zip(axes.get_yticklabels(), methods, strict=True):
        label.set_color(look[method].colour)
    axes.set_ylim(len(methods) - 0.4, -1.0)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    seeds = len({r["seed"] for r in rows})
    axes.set_xlabel(f"{seeds} seeds, mean ± sd" if seeds > 1 else "one seed")


def _mark_ends(axes: Axes, rows: Sequence[Row], look: Mapping[str, Look]) -> None:
    """Draw the levels of uniform and oracle through all lines, each named on its outer side."""
    levels = {
        method: 100 * float(np.mean([r["value"] for r in rows if r["method"] == method]))
        for method in (UNIFORM, ORACLE)
        if any(r["method"] == method for r in rows)
    }
    for method, level in levels.items():
        outer = -1 if level == min(levels.values()) and len(levels) > 1 else 1
        axes.axvline(level, color=look[method].colour, lw=1, ls=(0, (3, 2)), zorder=1)
        axes.annotate(
            method, (level, 1), xycoords=("data", "axes fraction"), xytext=(3 * outer, -2),
            textcoords="offset points", ha="right" if outer < 0 else "left", va="top",
            fontsize=7.5, color=look[method].colour,
        )  # fmt: skip


def _curves(
    axes: Axes,
    rows: Sequence[Row],
    methods: Sequence[str],
    look: Mapping[str, Look],
    axis: str,
    scale: float,
) -> None:
    """Draw each method's mean over seeds, with its name at the end of the line."""
    ends: list[tuple[str, str, float, float]] = []
    for method in methods:
        own = [r for r in rows if r["method"] == method and r[axis] is not None]
        places = sorted({r[axis] for r in own})
        if not places:
            continue
        means = [scale * float(np.mean([r["value"] for r in own if r[axis] == x])) for x in places]
        style = look[method]
        axes.plot(
            places, means, color=style.colour, ls=style.dashes, marker=style.marker, ms=3.2,
            lw=style.width, zorder=4 if method in _FIRST else 3,
        )  # fmt: skip
        ends.append((method.replace("_", " "), style.colour, places[-1], means[-1]))
    name_lines(axes, ends)
