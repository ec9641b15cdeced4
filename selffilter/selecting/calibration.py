"""With known truth: how far a probability of being clean can be believed, what a cut is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from selffilter.selecting.histograms import Scores
from selffilter.selecting.scratch import chunks


@dataclass(frozen=True)
class Reliability:
    """A reliability table: rows by how surely they were said to be clean.

    Attributes:
        rows_B: Rows in each of B bins of equal width between 0 and 1, (B,) int64.
        posterior_B: Mean probability there, (B,) float64; NaN where there are no rows.
        clean_B: Share of clean rows there, (B,) float64; NaN where there are none.
    """

    rows_B: NDArray[np.int64]
    posterior_B: NDArray[np.float64]
    clean_B: NDArray[np.float64]

    @property
    def expected_calibration_error(self) -> float:
        """``Σ rows_b/rows · |clean_b − posterior_b|`` (Naeini et al. 2015); NaN without rows."""
        rows = int(self.rows_B.sum())
        if not rows:
            return math.nan
        apart_B = np.abs(self.clean_B - self.posterior_B)
        return float(np.nansum(self.rows_B * apart_B) / rows)

    def table(self) -> pa.Table:
        """Return it with the edges of the bins."""
        edges = np.linspace(0, 1, len(self.rows_B) + 1)
        return pa.table(
            {
                "from": edges[:-1],
                "to": edges[1:],
                "rows": self.rows_B,
                "mean_posterior": self.posterior_B,
                "clean_share": self.clean_B,
            }
        )


def reliability(
    posterior_n: NDArray[np.floating], clean_n: NDArray[np.bool_], bins: int = 10
) -> Reliability:
    """Compare probabilities with what is true.

    Args:
        posterior_n: Probability of being clean of rows whose truth is known, (n,); NaN: left out.
        clean_n: The truth, (n,) bool.
        bins: How many.

    Raises:
        ValueError: If lengths differ, or a number is no probability.
    """
    _same_length(posterior_n, clean_n)
    rows_B, right_B = np.zeros(bins, np.int64), np.zeros(bins, np.int64)
    sum_B = np.zeros(bins)
    for part in chunks(len(posterior_n)):
        known = ~np.isnan(posterior_n[part])
        p_n, c_n = posterior_n[part][known].astype(np.float64), clean_n[part][known]
        if len(p_n) and (p_n.min() < 0 or p_n.max() > 1):
            raise ValueError(f"probabilities from {p_n.min()} to {p_n.max()}")
        bin_n = np.minimum((p_n * bins).astype(np.int64), bins - 1)
        rows_B += np.bincount(bin_n, minlength=bins)
        right_B += np.bincount(bin_n[c_n], minlength=bins)
        sum_B += np.bincount(bin_n, weights=p_n, minlength=bins)
    some_B = np.where(rows_B > 0, rows_B, np.nan)
    return Reliability(rows_B, sum_B / some_B, right_B / some_B)


@dataclass(frozen=True)
class CutQuality:
    """What a cut keeps; rows without a score are never kept.

    Attributes:
        rows: Rows whose truth is known …
        clean: … clean ones among them …
        kept: … and those with at least the score.
        kept_clean: Clean ones among the kept.
    """

    rows: int
    clean: int
    kept: int
    kept_clean: int

    @property
    def precision(self) -> float:
        """Share of clean rows among the kept; NaN if none is."""
        return self.kept_clean / self.kept if self.kept else math.nan

    @property
    def recall(self) -> float:
        """Share of the clean rows that are kept; NaN if there are none."""
        return self.kept_clean / self.clean if self.clean else math.nan


def quality_of_cut(scores_n: Scores, clean_n: NDArray[np.bool_], lowest: float) -> CutQuality:
    """Say what keeping every row from a score on is worth.

    Args:
        scores_n: Scores of rows whose truth is known, (n,).
        clean_n: The truth, (n,) bool.
        lowest: The lowest score that is kept, as of `Mixture.lowest_score`.

    Raises:
        ValueError: If lengths differ.
    """
    _same_length(scores_n, clean_n)
    kept = kept_clean = 0
    for part in chunks(len(scores_n)):
        kept_n = scores_n[part] >= lowest
        kept += int(np.count_nonzero(kept_n))
        kept_clean += int(np.count_nonzero(kept_n & clean_n[part]))
    return CutQuality(len(scores_n), int(np.count_nonzero(clean_n)), kept, kept_clean)


def _same_length(values_n: NDArray[np.floating], clean_n: NDArray[np.bool_]) -> None:
    if len(values_n) != len(clean_n):
        raise ValueError(f"{len(values_n)} rows, and the truth of {len(clean_n)}")
