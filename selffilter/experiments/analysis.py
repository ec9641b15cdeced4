"""Setting methods against each other over seeds. Pure arithmetic on a few numbers a method.

Runs of one seed share noise, pool order and first weights, so differences are taken seed by seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from selffilter.randomness import hash_rows

Values = Mapping[int, float]
"""Seed → value."""

CONFIDENCE = 0.95
FEW_SEEDS = 3
"""With so few seeds (or fewer) a bootstrap interval says nothing: there are too few resamples."""
GAP_IN_STANDARD_ERRORS = 3.0
"""A gap between oracle and uniform below so many standard errors is not divided by."""


@dataclass(frozen=True)
class Spread:
    """A number over seeds.

    Attributes:
        seeds: How many.
        mean: Over them.
        sd: Standard deviation (n - 1); NaN for one seed.
    """

    seeds: int
    mean: float
    sd: float


@dataclass(frozen=True)
class Difference:
    """A method minus another one, seed by seed.

    Attributes:
        seeds: How many both have.
        mean: Of the differences.
        standard_error: Of that mean; NaN for one seed.
        t_interval: 95 %, by Student's t; NaN for one seed.
        bootstrap_interval: 95 %, percentiles over resampled seeds; NaN for few seeds.
    """

    seeds: int
    mean: float
    standard_error: float
    t_interval: tuple[float, float]
    bootstrap_interval: tuple[float, float]


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


_NO_INTERVAL = (math.nan, math.nan)


def spread(values: Values) -> Spread:
    """Return mean and standard deviation over seeds."""
    array = np.array(list(values.values()))
    return Spread(len(array), float(array.mean()) if len(array) else math.nan, _sd(array))


def paired_difference(method: Values, other: Values, resamples: int) -> Difference:
    """Compare two methods on the seeds that both have.

    Args:
        method: What is asked about.
        other: What it is held against.
        resamples: Of the bootstrap; its randomness depends on the seeds' numbers alone.
    """
    seeds = _common(method, other)
    d = np.array([method[s] - other[s] for s in seeds])
    if not seeds:
        return Difference(0, math.nan, math.nan, _NO_INTERVAL, _NO_INTERVAL)
    error = _standard_error(d)
    half = float(student_t.ppf(0.5 + CONFIDENCE / 2, len(d) - 1)) * error
    mean = float(d.mean())
    bootstrap = _NO_INTERVAL
    if len(seeds) > FEW_SEEDS:
        bootstrap = _percentiles(d[_resampled(seeds, resamples)].mean(axis=1))
    return Difference(len(seeds), mean, error, (mean - half, mean + half), bootstrap)


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
    seeds = _common(method, uniform, oracle)
    gap_S = np.array([oracle[s] - uniform[s] for s in seeds])
    won_S = np.array([method[s] - uniform[s] for s in seeds])
    gap = float(gap_S.mean()) if seeds else math.nan
    error = _standard_error(gap_S)

    def none(reason: str) -> GapClosed:
        return GapClosed(len(seeds), math.nan, _NO_INTERVAL, gap, error, reason)

    if len(seeds) < 2:
        return none("one seed" if seeds else "no seed in common")
    if gap <= 0 or gap < GAP_IN_STANDARD_ERRORS * error:
        return none("gap too small")
    interval = _NO_INTERVAL
    if len(seeds) > FEW_SEEDS:
        again = _resampled(seeds, resamples)
        gaps, won = gap_S[again].mean(axis=1), won_S[again].mean(axis=1)
        interval = _percentiles(won[gaps > 0] / gaps[gaps > 0])
    return GapClosed(len(seeds), float(won_S.mean()) / gap, interval, gap, error, "")


def _common(*methods: Values) -> list[int]:
    return sorted(set.intersection(*(set(values) for values in methods)))


def _resampled(seeds: list[int], resamples: int) -> NDArray[np.int64]:
    """Return places of seeds drawn with replacement, (resamples, seeds)."""
    places = np.arange(resamples * len(seeds), dtype=np.int64)
    drawn = hash_rows(places, "bootstrap", *seeds) % np.uint64(len(seeds))
    return drawn.astype(np.int64).reshape(resamples, len(seeds))


def _percentiles(values: NDArray[np.float64]) -> tuple[float, float]:
    if not len(values):
        return _NO_INTERVAL
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _sd(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan


def _standard_error(values: NDArray[np.float64]) -> float:
    return _sd(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
