"""Histograms of scores, made in chunks: what 10⁸ scores look like, in a few kilobytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selffilter.selecting.scratch import chunks

Scores = NDArray[np.floating]
Which = NDArray[np.bool_] | NDArray[np.int64]
"""Some of N rows: (N,) bool, or their numbers, (K,) int64."""


@dataclass(frozen=True)
class Histogram:
    """How many scores lie in each of some bins of equal width.

    Attributes:
        low: Lower edge of the first bin.
        high: Upper edge of the last; the bin includes it.
        counts_B: (B,) int64. What lies outside the edges is counted in the first and the last bin.
    """

    low: float
    high: float
    counts_B: NDArray[np.int64]

    @property
    def rows(self) -> int:
        """How many scores there are."""
        return int(self.counts_B.sum())

    @property
    def width(self) -> float:
        """Width of a bin, in units of the score."""
        return (self.high - self.low) / len(self.counts_B)

    @property
    def centres_B(self) -> NDArray[np.float64]:
        """Middle of each bin, (B,) float64."""
        places_B = np.arange(len(self.counts_B), dtype=np.float64)
        return self.low + self.width * (places_B + 0.5)

    def quantile(self, fraction: float) -> float:
        """Return the upper edge of the first bin below whose end so many of the scores lie."""
        below_B = np.cumsum(self.counts_B)
        place = int(np.searchsorted(below_B, fraction * below_B[-1], side="left"))
        return self.low + self.width * (min(place, len(below_B) - 1) + 1)


def score_range(scores_N: Scores, which: Which | None = None) -> tuple[float, float] | None:
    """Return the lowest and the highest finite score; None if there is none."""
    low, high = np.inf, -np.inf
    for finite in finite_scores(scores_N, which):
        if len(finite):
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return (low, high) if low <= high else None


def histogram(
    scores_N: Scores, low: float, high: float, bins: int, which: Which | None = None
) -> Histogram:
    """Count scores in bins; NaN and infinities are left out.

    Args:
        scores_N: (N,).
        low: See `Histogram`.
        high: See `Histogram`.
        bins: How many.
        which: Which scores count; None: all.

    Raises:
        ValueError: If ``low < high`` does not hold.
    """
    if not low < high:
        raise ValueError(f"a histogram from {low} to {high} has no width")
    counts_B = np.zeros(bins, np.int64)
    scale = bins / (high - low)
    for finite in finite_scores(scores_N, which):
        places = np.clip((finite.astype(np.float64) - low) * scale, 0, bins - 1)
        counts_B += np.bincount(places.astype(np.int32), minlength=bins)
    return Histogram(low, high, counts_B)


def histograms(scores_N: Scores, of: Mapping[str, Which], bins: int = 64) -> dict[str, Histogram]:
    """Make histograms of several parts of a pool with the same bins, over the range of all of them.

    Args:
        scores_N: (N,).
        of: The parts by name, as base, confident, diverse and probe.
        bins: How many.

    Returns:
        One histogram for each part; none at all if no score is finite.
    """
    ranges = [found for which in of.values() if (found := score_range(scores_N, which))]
    if not ranges:
        return {}
    low, high = min(found[0] for found in ranges), max(found[1] for found in ranges)
    if low == high:  # one score for all: a bin around it
        half = 0.5 * max(1.0, abs(low))
        low, high = low - half, high + half
    return {name: histogram(scores_N, low, high, bins, which) for name, which in of.items()}


def finite_scores(scores_N: Scores, which: Which | None = None) -> Iterator[Scores]:
    """Give the finite scores of some rows, a chunk at a time; a chunk may have none."""
    rows = None if which is None or which.dtype == np.bool_ else which
    for part in chunks(len(scores_N) if rows is None else len(rows)):
        scores_n = scores_N[part] if rows is None else scores_N[rows[part]]
        counts_n = np.isfinite(scores_n)
        if which is not None and rows is None:
            counts_n &= which[part]
        yield scores_n[counts_n]
