"""Columns from columns: quantiles, and ensembles of them.

Raw scores of different rounds are not comparable while τ moves, nor are those of different signals:
quantiles are. All of it is numpy, some tens of bytes a row: 10⁸ rows fit. A row without a score
(NaN) stays without one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

How = Literal["mean", "min"]

Column = NDArray[np.floating]


def quantiles(scores_N: Column) -> NDArray[np.float64]:
    """Return each score's place among all scores, 0 the worst and 1 the best.

    The mid-rank quantile ``(rows below + ½·rows equal, itself among them) / rows``: equal scores
    get equal quantiles, and the mean is ½ whatever the ties.

    Returns:
        (N,) float64 in (0, 1); NaN where there is no score.
    """
    found_N = np.full(len(scores_N), np.nan)
    scored = np.flatnonzero(np.isfinite(scores_N))
    if not len(scored):
        return found_N
    order = scored[np.argsort(scores_N[scored])]
    ranked = scores_N[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    ends = np.append(starts[1:], len(ranked))
    found_N[order] = np.repeat((starts + ends) / (2 * len(ranked)), ends - starts)
    return found_N


def rank_ensemble(columns: Sequence[Column], how: How = "mean") -> NDArray[np.float32]:
    """Combine signals by their quantiles.

    Args:
        columns: Scores, (N,) each.
        how: ``mean``: good on the whole; ``min``: good in every respect.

    Returns:
        (N,) float32 in (0, 1); NaN where any column has no score.

    Raises:
        ValueError: If there is no column, their lengths differ, or `how` is neither.
    """
    if not columns or len({len(column) for column in columns}) != 1:
        raise ValueError("an ensemble is of columns of the same length, one at least")
    if how not in ("mean", "min"):
        raise ValueError(f"an ensemble takes the mean or the min, not {how!r}")
    together_N = quantiles(columns[0])
    for column_N in columns[1:]:
        quantile_N = quantiles(column_N)
        if how == "mean":
            together_N += quantile_N
        else:
            together_N = np.minimum(together_N, quantile_N)  # NaN if either is
    if how == "mean":
        together_N /= len(columns)
    return together_N.astype(np.float32)
