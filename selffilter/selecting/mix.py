"""The mix: the most confident rows of the scored base, and a fresh uniform draw from all of it.

arXiv 2606.23611: the training set is made of filtered, highly probable clean samples and of diverse
samples from the entire distribution. Exactly: confident = the best `keep_fraction` of the scored
base, weight 1; diverse = `diverse_fraction` of the base, drawn uniformly without replacement and
anew each round. A row that is already confident stays confident and is not replaced, so the
effective diverse share is smaller than asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selffilter.randomness import draw

Rows = NDArray[np.int64]
UidsOf = Callable[[Rows], NDArray[np.uint64]]


@dataclass(frozen=True)
class Mix:
    """A selection, rows ascending, and how it came about.

    Attributes:
        rows_K: The selected rows.
        confident_K: Whether a row is there for its score; otherwise it was drawn.
        scores_K: float32; NaN for rows that have no score.
        rank_K: Place in the scored base, 0 the best; -1 for rows that have no score.
        threshold: The lowest confident score; NaN if there is no confident row.
        drawn: Rows that the diverse draw met, the confident ones among them counted.
        scored: Size of the scored base.
        base: Size of the base.
    """

    rows_K: Rows
    confident_K: NDArray[np.bool_]
    scores_K: NDArray[np.float32]
    rank_K: Rows
    threshold: float
    drawn: int
    scored: int
    base: int

    @property
    def confident(self) -> Rows:
        """The confident rows, ascending."""
        return self.rows_K[self.confident_K]

    @property
    def diverse(self) -> Rows:
        """The diverse rows that are not confident, ascending."""
        return self.rows_K[~self.confident_K]

    def counts(self) -> dict[str, int | float]:
        """Return the counts of the mix, each with its base named."""
        selected = max(1, len(self.rows_K))
        return {
            "base": self.base,
            "scored_base": self.scored,
            "selected": len(self.rows_K),
            "confident": len(self.confident),
            "diverse": len(self.diverse),
            "diverse_drawn": self.drawn,
            "diverse_already_confident": self.drawn - len(self.diverse),
            "effective_diverse_share_of_selected": len(self.diverse) / selected,
            "threshold": self.threshold,
        }


def select_mix(
    rows_N: Rows,
    scores_N: NDArray[np.float32],
    uids_of: UidsOf,
    *,
    keep_fraction: float,
    diverse_fraction: float,
    seed: int,
    round_: int,
) -> Mix:
    """Select from the base. The same arguments give the same mix, in whatever order rows come.

    Args:
        rows_N: The base, each row once.
        scores_N: Score of each row, higher is better; NaN: not scored.
        uids_of: Rows → (n, 2) uint64, for the rows whose scores tie.
        keep_fraction: Of the scored base.
        diverse_fraction: Of the base.
        seed: The run's seed.
        round_: The round whose model scored; each round draws anew.
    """
    if (rows_N[1:] < rows_N[:-1]).any():
        ascending = np.argsort(rows_N)
        rows_N, scores_N = rows_N[ascending], scores_N[ascending]
    scored = np.isfinite(scores_N)
    order = by_score(rows_N[scored], scores_N[scored], uids_of)
    rank_N = np.full(len(rows_N), -1, dtype=np.int64)
    rank_N[np.flatnonzero(scored)[order]] = np.arange(len(order))

    keep = round(keep_fraction * len(order))
    confident_N = scored & (rank_N < keep)
    drawn = draw(rows_N, round(diverse_fraction * len(rows_N)), seed, "diverse", round_)
    selected_N = confident_N.copy()
    selected_N[np.searchsorted(rows_N, drawn)] = True
    return Mix(
        rows_K=rows_N[selected_N],
        confident_K=confident_N[selected_N],
        scores_K=scores_N[selected_N],
        rank_K=rank_N[selected_N],
        threshold=float(scores_N[confident_N].min()) if keep else float("nan"),
        drawn=len(drawn),
        scored=len(order),
        base=len(rows_N),
    )


def by_score(rows_N: Rows, scores_N: NDArray[np.float32], uids_of: UidsOf) -> Rows:
    """Return the order from the best score to the worst; ties go by (uid, row).

    Only tied rows are asked for their uid.
    """
    order = np.argsort(-scores_N, kind="stable")
    ranked = scores_N[order]
    tied = np.zeros(len(order), dtype=bool)
    equal = ranked[1:] == ranked[:-1]
    tied[1:] |= equal
    tied[:-1] |= equal
    places = np.flatnonzero(tied)
    if len(places):
        rows = rows_N[order[places]]
        uids = uids_of(rows)
        again = np.lexsort((rows, uids[:, 1], uids[:, 0], -ranked[places]))
        order[places] = order[places][again]
    return order
