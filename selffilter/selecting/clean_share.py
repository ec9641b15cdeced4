"""How much of a pool is clean, from what wrong pairs score.

If a share π of the pairs is wrong, and wrong pairs score like pairs that were made wrong on purpose
(the *null*), then of all pairs at least ``π·q`` score below the null's q-quantile. So

    π ≤ min_q F(Q₀(q)) / q        and        clean ≥ 1 − min_q F(Q₀(q)) / q

with F the distribution of the scores of pairs as they are, and Q₀ the null's quantiles: Storey's
estimate (J. R. Statist. Soc. B 64, 2002) with the null known from a sample. It says *at least*: the
better the model tells right from wrong, the nearer the bound comes. A pair that is wrong in another
way than a swapped caption (boilerplate, a near-duplicate) need not score like the null.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

QUANTILES = (0.2, 0.3, 0.4, 0.5, 0.6)
"""Where F is held against the null: below, a small probe has too few rows, and above right pairs
are among them."""

FEWEST_ROWS = 200


@dataclass(frozen=True)
class CleanShare:
    """A lower bound of the share of clean rows.

    Attributes:
        share: Between 0 and 1.
        standard_error: Of that, from the number of rows alone.
        quantile: Of the null, where the bound is sharpest.
        rows: Rows that it was computed from.
    """

    share: float
    standard_error: float
    quantile: float
    rows: int


def clean_share(scores_n: NDArray[np.float32], null_m: NDArray[np.float32]) -> CleanShare | None:
    """Bound the share of clean rows from below.

    Args:
        scores_n: Of rows that were never trained on, as they are; NaN: none.
        null_m: Of pairs of the same rows that are wrong.

    Returns:
        None with fewer than `FEWEST_ROWS` of either.
    """
    scores = scores_n[np.isfinite(scores_n)]
    null = null_m[np.isfinite(null_m)]
    if min(len(scores), len(null)) < FEWEST_ROWS:
        return None
    cuts_Q = np.quantile(null, QUANTILES)
    below_Q = np.array([(scores <= cut).mean() for cut in cuts_Q])
    wrong_Q = below_Q / np.array(QUANTILES)
    best = int(np.argmin(wrong_Q))
    q, below = QUANTILES[best], float(below_Q[best])
    error = math.sqrt(max(below * (1 - below), 1 / len(scores)) / len(scores)) / q
    return CleanShare(min(1.0, max(0.0, 1 - float(wrong_Q[best]))), error, q, len(scores))
