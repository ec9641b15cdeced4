"""How much of the way from uniform to the oracle a method goes, over seeds: pure arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from selffilter.comparing.seeds import (
    FEW_SEEDS,
    NO_INTERVAL,
    Values,
    common,
    percentiles,
    resampled,
    standard_error,
)

GAP_IN_STANDARD_ERRORS = 3.0
"""A gap between oracle and uniform below so many standard errors is not divided by."""


@dataclass(frozen=True)
class GapClosed:
    """How much of the way from uniform to the oracle a method goes.

    Attributes:
        seeds: How many all three have.
        share: Ratio of the means of the paired differences; NaN where the gap is too small.
        bootstrap_interval: 95 %, percentiles over resampled seeds; NaN for few seeds.
        gap: The oracle's mean minus uniform's.
        gap_standard_error: Of that.
        reason: Why there is no share; empty if there is one.
    """

    seeds: int
    share: float
    bootstrap_interval: tuple[float, float]
    gap: float
    gap_standard_error: float
    reason: str


def gap_closed(method: Values, uniform: Values, oracle: Values, resamples: int) -> GapClosed:
    """Return (method - uniform) / (oracle - uniform), as a ratio of means over seeds.

    A ratio over a gap that may be noise is worse than none: there is one only where the gap is
    positive and at least `GAP_IN_STANDARD_ERRORS` standard errors of its paired mean.

    Args:
        method: What is asked about.
        uniform: The lower end.
        oracle: The upper end.
        resamples: Of the bootstrap, which resamples seeds, all three methods together. Resamples
            in which the gap is not positive are left out of the percentiles.
    """
    seeds = common(method, uniform, oracle)
    gap_S = np.array([oracle[s] - uniform[s] for s in seeds])
    won_S = np.array([method[s] - uniform[s] for s in seeds])
    gap = float(gap_S.mean()) if seeds else math.nan
    error = standard_error(gap_S)

    def none(reason: str) -> GapClosed:
        return GapClosed(len(seeds), math.nan, NO_INTERVAL, gap, error, reason)

    if len(seeds) < 2:
        return none("one seed" if seeds else "no seed in common")
    if gap <= 0 or gap < GAP_IN_STANDARD_ERRORS * error:
        return none("gap too small")
    interval = NO_INTERVAL
    if len(seeds) > FEW_SEEDS:
        again = resampled(seeds, resamples)
        gaps, won = gap_S[again].mean(axis=1), won_S[again].mean(axis=1)
        interval = percentiles(won[gaps > 0] / gaps[gaps > 0])
    return GapClosed(len(seeds), float(won_S.mean()) / gap, interval, gap, error, "")
