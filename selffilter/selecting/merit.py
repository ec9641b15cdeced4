"""What rows are ranked by when not every score is of this round's model alone.

While τ moves, raw scores of different rounds cannot be compared; places can. A row's *merit* is a
place between 0, the worst, and 1, the best:

- Rows scored afresh get their place among those. If these are only some rows, chosen as they may
  be, they share out anew the places that they had: a place q among them becomes the quantile q of
  their earlier places. So which rows were scored afresh moves nobody by itself.
- The other rows keep their place.
- With a memory, places are averaged over rounds: ``Σ_r w_r q_r / Σ_r w_r`` with
  ``w_r = 2^(−age_r/half-life)``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from selffilter.selecting.combine import quantiles


def merit(
    scores_N: NDArray[np.float32],
    fresh_N: NDArray[np.bool_],
    before_N: NDArray[np.float32] | None = None,
    *,
    half_life_rounds: float = 0.0,
    rounds: int = 1,
) -> NDArray[np.float32]:
    """Return the merit of each row.

    Args:
        scores_N: Scores; NaN: none.
        fresh_N: Which of them are of this round.
        before_N: Merits of the round before, NaN: none; None: this is the first.
        half_life_rounds: Of the memory; 0: none.
        rounds: How many there have been, this one included.

    Returns:
        (N,) float32 in [0, 1]; NaN where there is neither a score of this round nor a merit before.
    """
    before_N = np.full(len(scores_N), np.nan, np.float32) if before_N is None else before_N
    fresh_N = fresh_N & np.isfinite(scores_N)
    known_N = np.isfinite(before_N) & np.isfinite(scores_N)
    again_N = fresh_N & known_N

    place_n = quantiles(scores_N[fresh_N])
    if again_N.any() and (known_N & ~fresh_N).any():
        place_n = _shared_out(place_n, quantiles(np.where(known_N, before_N, np.nan))[again_N])
    merit_N = np.where(known_N, before_N, np.nan).astype(np.float64)
    merit_N[fresh_N] = place_n
    if half_life_rounds > 0:
        fading = 2.0 ** (-1.0 / half_life_rounds)
        latest = (1 - fading) / (1 - fading**rounds)  # its share of Σ_r w_r
        merit_N[again_N] = latest * merit_N[again_N] + (1 - latest) * before_N[again_N]
    return merit_N.astype(np.float32)


def _shared_out(
    place_n: NDArray[np.float64], earlier_m: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the quantiles of earlier places that belong to places, both between 0 and 1."""
    earlier_m = np.sort(earlier_m)
    middles_m = (np.arange(len(earlier_m)) + 0.5) / len(earlier_m)
    return np.interp(place_n, middles_m, earlier_m)
