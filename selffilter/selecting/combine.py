"""Columns from columns: quantiles within a round, their moving average over rounds, ensembles.

Raw scores of different rounds are not comparable while τ moves, nor are those of different signals:
quantiles are. All of it is numpy, some tens of bytes a row: 10⁸ rows fit. A row without a score
(NaN) stays without one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


def moving_average(rounds: Iterable[Column], half_life_rounds: float) -> NDArray[np.float32]:
    """Average each row's quantiles over rounds: a round counts half as much as one h rounds later.

    ``Σ_r w_r q_r / Σ_r w_r`` with ``w_r = 2^(−age_r/h)``, over the rounds in which the row has a
    score. One round is in memory at a time.

    Args:
        rounds: The raw scores of every round, (N,) each, the oldest first.
        half_life_rounds: h; near 0 the latest round alone counts.

    Returns:
        (N,) float32 in (0, 1); NaN where the latest round has no score.

    Raises:
        ValueError: If there is no round, their lengths differ or h is not positive.
    """
    if not half_life_rounds > 0:
        raise ValueError(f"a half-life of {half_life_rounds} rounds is not positive")
    fading = 2.0 ** (-1.0 / half_life_rounds)
    sum_N = weight_N = latest_N = None
    for scores_N in rounds:
        latest_N = quantiles(scores_N)
        if sum_N is None or weight_N is None:
            sum_N, weight_N = np.zeros(len(latest_N)), np.zeros(len(latest_N))
        if len(latest_N) != len(sum_N):
            raise ValueError(f"rounds of {len(sum_N)} and of {len(latest_N)} rows")
        scored_N = np.isfinite(latest_N)
        sum_N *= fading
        weight_N *= fading
        sum_N[scored_N] += latest_N[scored_N]
        weight_N[scored_N] += 1
    if sum_N is None or weight_N is None or latest_N is None:
        raise ValueError("no round to average over")
    average_N = np.full(len(sum_N), np.nan, np.float32)
    scored_N = np.isfinite(latest_N)
    average_N[scored_N] = sum_N[scored_N] / weight_N[scored_N]
    return average_N


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
