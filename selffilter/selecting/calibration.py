"""With known truth: how far a probability of being clean can be believed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

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

    @classmethod
    def of_table(cls, table: pa.Table) -> Reliability:
        """Return what `table` was made from."""
        columns = ("rows", "mean_posterior", "clean_share")
        return cls(*(table[name].to_numpy() for name in columns))

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
    if len(posterior_n) != len(clean_n):
        raise ValueError(f"{len(posterior_n)} rows, and the truth of {len(clean_n)}")
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
