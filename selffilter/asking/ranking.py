"""The rank of a few rows among very many scores, by counting: nothing is sorted, nothing kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class BetterThan:
    """Counts, chunk by chunk, the scores that are strictly better than some.

    Args:
        asked_K: (K,) float32; NaN: nothing is better or worse.

    Attributes:
        scored: Finite scores counted so far.
    """

    def __init__(self, asked_K: NDArray[np.float32]) -> None:
        self._order = np.argsort(asked_K)  # NaN last
        self._asked = asked_K[self._order]
        self._above = np.zeros(len(asked_K) + 1, np.int64)
        self.scored = 0

    def count(self, scores_n: NDArray[np.float32]) -> None:
        """Count some scores, (n,) float32; what is not finite is none."""
        finite_n = scores_n[np.isfinite(scores_n)]
        self.scored += len(finite_n)
        # A score is better than as many of the asked as stand before it.
        places_n = np.searchsorted(self._asked, finite_n, side="left")
        self._above += np.bincount(places_n, minlength=len(self._above))

    @property
    def ranks_K(self) -> NDArray[np.int64]:
        """How many of the scores are better than each asked one, (K,) int64; -1 for NaN."""
        ranks = np.empty(len(self._asked), np.int64)
        better = self._above[::-1].cumsum()[::-1][1:]
        ranks[self._order] = np.where(np.isfinite(self._asked), better, -1)
        return ranks
