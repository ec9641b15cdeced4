"""The figures of signals_on_noise.py: heat maps with their numbers in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from numpy.typing import NDArray

from selffilter.theory.plotting import new_figure

Row = Mapping[str, Any]
NAMES = {"near_duplicate_flood": "near-duplicate flood"}


def draw_auc(path: Path, rows: Sequence[Row], kinds: Sequence[str], signals: Sequence[str]) -> None:
    """Draw AUC against the truth, kinds × signals, a panel a round; means over seeds."""
    rounds = sorted({row["round"] for row in rows})
    figure, axes = new_figure(3.4 + 0.72 * len(kinds) * len(rounds), 5.2, len(rounds))
    norm = TwoSlopeNorm(0.5, 0.0, 1.0)
    for panel, round_ in zip(axes, rounds, strict=True):
        values = [
            [
                _mean([r["auc"] for r in rows if _is(r, round_, signal) and r["kind"] == kind])
                for kind in kinds
            ]
            for signal in signals
        ]
        _heat_map(panel, np.array(values), kinds, signals if round_ == rounds[0] else (), norm)
        panel.set_title("after the bootstrap" if round_ == 0 else f"after round {round_}")
    figure.suptitle(
        "AUC: how often an untouched pair scores above a planted one (0.5: no better than chance)",
        fontsize=10.5,
    )
    figure.savefig(path)


def draw_correlations(path: Path, rows: Sequence[Row], signals: Sequence[str]) -> None:
    """Draw rank correlations in the last round, of the untouched and of the mismatched pool."""
    last = max(row["round"] for row in rows)
    pools = [k for k in ("untouched", "mismatched") if any(r["kind"] == k for r in rows)]
    figure, axes = new_figure(3.2 + 5.0 * len(pools), 6.6, len(pools))
    norm = TwoSlopeNorm(0.0, -1.0, 1.0)
    for panel, kind in zip(axes, pools, strict=True):
        here = [r for r in rows if r["kind"] == kind and r["other_round"] == last]
        values = [
            [
                _mean([r["rank_correlation"] for r in here if _is(r, last, a) and r["other"] == b])
                for b in signals
            ]
            for a in signals
        ]
        _heat_map(panel, np.array(values), signals, signals if kind == pools[0] else (), norm)
        panel.set_title(f"{kind}: rank correlation")
    figure.savefig(path)


def _is(row: Row, round_: int, signal: str) -> bool:
    return bool((row["round"], row["signal"]) == (round_, signal))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _heat_map(
    axes: Axes,
    values_RC: NDArray[np.float64],
    columns: Sequence[str],
    rows: Sequence[str],
    norm: TwoSlopeNorm,
) -> None:
    axes.imshow(values_RC, cmap="RdBu", norm=norm, aspect="auto")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks(range(len(columns)), [_shown(c) for c in columns], rotation=40, ha="right")
    axes.set_yticks(range(len(values_RC)), [_shown(r) for r in rows] or [""] * len(values_RC))
    for (row, column), value in np.ndenumerate(values_RC):
        far = abs(norm(value) - 0.5) > 0.33
        text = "–" if np.isnan(value) else f"{value:.2f}".replace("0.", ".", 1)
        colour = "white" if far else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)


def _shown(name: str) -> str:
    return NAMES.get(name, name.replace("variance_alignment", "VA").replace("_", " "))
