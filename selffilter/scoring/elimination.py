"""Dynamic elimination: VAS-D (arXiv 2402.02055) and NormSim_2-D (arXiv 2405.19547).

Both look for the n of n₀ rows that are best aligned with each other, ``max Σ_{i∈S} f_iᵀ Σ_S f_i``,
by dropping the least aligned: for t < T drop the ``⌈(n₀ − n)/T⌉`` rows of lowest ``f_iᵀ Σ_t f_i``,
then take Σ_{t+1} of the rows that are left; stop at exactly n. Σ_0 is that of the whole pool,
before any cut, for VAS-D, and that of the n₀ rows for NormSim-D. f: unit-norm image features.

Done directly, a round costs 2·n_t·D² for the scores and as much for Σ. Here it costs

- for Σ: what was dropped is subtracted, (n₀ − n)/T·D²;
- for the scores: only of rows that may be among the lowest. With ``M_t = n_t·Σ_t`` (the order is
  the same), a row's score falls from t to t' by ``f_iᵀ (M_t − M_t') f_i``, which is at least 0 and
  at most the largest eigenvalue of what was dropped, summed over the rounds. So its last score less
  that sum is a lower bound; rows whose bound is above the scores of enough others wait.

The result is that of the direct way: scores that are compared are computed anew in float64 from M_t
(which is taken afresh whenever the rows have halved, so that rounding does not pile up), divided by
n_t and compared as float32, so that equal images tie; ties go by (uid, row): the smaller one stays.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selffilter.scoring.moments import MomentSums, SecondMoments

FeaturesOf = Callable[[NDArray[np.int64]], Tensor]
"""Rows → their unit-norm image features, (n, D) float32, on the device that computes."""

_ROWS_AT_ONCE = 8192
_NORM = 1 + 1e-6  # the square of a float32 unit norm is no larger
_SLACK = 1e-6  # relative: of comparing as float32, and of rounding in the bounds


def elimination_steps(
    features_of: FeaturesOf,
    rows_N: NDArray[np.int64],
    uids_N2: NDArray[np.uint64],
    *,
    keep: int,
    rounds: int,
    first: SecondMoments | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> NDArray[np.int32]:
    """Find out in which round each row is dropped.

    Args:
        features_of: See `FeaturesOf`; rows are asked for in ascending order.
        rows_N: The n₀ rows that take part, ascending; all usable.
        uids_N2: Their ids, for ties.
        keep: n, at least 1.
        rounds: T. Rows are dropped in that many rounds or fewer, as the rounding up has it.
        first: Σ_0; None: of the rows that take part.
        progress: Called with the number of rows just dropped; n₀ − n in all.

    Returns:
        (n₀,) int32: 1 to T = the round in which a row is dropped; T + 1 = it stays. Higher is
        better.

    Raises:
        ValueError: If n is not between 1 and n₀, or T is not positive.
    """
    if not 1 <= keep <= len(rows_N) or rounds < 1:
        raise ValueError(f"cannot keep {keep} of {len(rows_N)} rows in {rounds} rounds")
    step_N = np.full(len(rows_N), rounds + 1, np.int32)
    survivors = _Survivors(features_of, rows_N, uids_N2, first)
    a_round = -(-(len(rows_N) - keep) // rounds)
    for step in range(1, rounds + 1):
        count = min(a_round, len(survivors.place_n) - keep)
        if not count:
            break
        step_N[survivors.drop_lowest(count)] = step
        progress(count)
    return step_N


class _Survivors:
    """The rows that are left, their M, and what is known of their scores.

    Attributes:
        place_n: Places of the survivors in `rows_N`.
    """

    def __init__(
        self,
        features_of: FeaturesOf,
        rows_N: NDArray[np.int64],
        uids_N2: NDArray[np.uint64],
        first: SecondMoments | None,
    ) -> None:
        self._features_of = features_of
        self._rows_N, self._uids_N2 = rows_N, uids_N2
        self.place_n = np.arange(len(rows_N))
        # A row's lower bound is `last` less what scores may have fallen by since; with nothing
        # known it is -inf.
        self._last_n = np.full(len(rows_N), -np.inf)
        self._fallen = 0.0
        self._of_all_rows = first is None
        self._gram_DD = self._gram(self.place_n) if first is None else first.sums["image"]
        self._summed_rows = len(rows_N) if first is None else first.count
        self._summed_afresh_at = len(rows_N)

    def drop_lowest(self, count: int) -> NDArray[np.int64]:
        """Drop the rows of lowest score.

        Returns:
            Their places in `rows_N`.
        """
        known, score = self._scores_of_the_lowest(count)
        cut = _kth_lowest(score, count)
        tied = known[score == np.float32(cut)]
        rows, uids = (of_N[self.place_n[tied]] for of_N in (self._rows_N, self._uids_N2))
        order = np.lexsort((rows, uids[:, 1], uids[:, 0]))[::-1]
        below = known[score < np.float32(cut)]
        lowest = np.concatenate([below, tied[order][: count - len(below)]])
        dropped = self.place_n[np.sort(lowest)]
        left_n = np.ones(len(self.place_n), dtype=bool)
        left_n[lowest] = False
        self.place_n, self._last_n = self.place_n[left_n], self._last_n[left_n]
        self._take_out(dropped)
        return dropped

    def _scores_of_the_lowest(self, count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return survivors, all of the `count` lowest (and their ties) among them, and scores."""
        bound_n = self._last_n - self._fallen
        known = np.flatnonzero(np.isneginf(bound_n))
        if not len(known):
            begin = min(len(bound_n), count + max(count // 4, 256))
            known = np.argpartition(bound_n, begin - 1)[:begin]
        score = self._score(known)
        cut = _kth_lowest(score, count)
        bound_n /= self._summed_rows  # as the scores are
        maybe_n = bound_n <= cut * (1 + _SLACK)
        maybe_n[known] = False
        waiting = np.flatnonzero(maybe_n)
        waiting = waiting[np.argsort(bound_n[waiting], kind="stable")]
        while len(waiting) and bound_n[waiting[0]] <= cut * (1 + _SLACK):
            size = max(_ROWS_AT_ONCE, len(known) // 4)
            now, waiting = waiting[:size], waiting[size:]
            known, score = np.append(known, now), np.append(score, self._score(now))
            cut = _kth_lowest(score, count)
        return known, score

    def _score(self, survivors: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return ``f_iᵀ Σ f_i`` of some survivors, float32, and note ``f_iᵀ M f_i``."""
        ascending = np.sort(survivors)
        parts = []
        for first in range(0, len(ascending), _ROWS_AT_ONCE):
            rows = self._rows_N[self.place_n[ascending[first : first + _ROWS_AT_ONCE]]]
            image_nD = self._features_of(rows).double()
            parts.append(((image_nD @ self._gram_DD) * image_nD).sum(dim=-1).cpu().numpy())
        exact = np.concatenate(parts)
        self._last_n[ascending] = exact + self._fallen
        scores = (exact / self._summed_rows).astype(np.float32)
        return scores[np.searchsorted(ascending, survivors)]

    def _take_out(self, dropped: NDArray[np.int64]) -> None:
        """Let M be that of the survivors."""
        self._summed_rows = len(self.place_n)
        if not self._of_all_rows:
            # Of the whole pool, so far: what scores fall by is nearly all of them.
            self._gram_DD = self._gram(self.place_n)
            self._last_n[:] = -np.inf
            self._of_all_rows, self._summed_afresh_at = True, len(self.place_n)
            return
        change_DD = self._gram(dropped)
        self._fallen += float(torch.linalg.eigvalsh(change_DD.cpu())[-1]) * _NORM
        if 2 * len(self.place_n) <= self._summed_afresh_at:
            self._gram_DD = self._gram(self.place_n)
            self._summed_afresh_at = len(self.place_n)
        else:
            self._gram_DD = self._gram_DD - change_DD

    def _gram(self, places: NDArray[np.int64]) -> Tensor:
        adding = MomentSums()
        for first in range(0, len(places), _ROWS_AT_ONCE):
            adding.add(self._features_of(self._rows_N[places[first : first + _ROWS_AT_ONCE]]))
        return adding.moments().sums["image"]


def _kth_lowest(scores: NDArray[np.float32], k: int) -> float:
    return float(np.partition(scores, k - 1)[k - 1]) if k <= len(scores) else float("inf")
