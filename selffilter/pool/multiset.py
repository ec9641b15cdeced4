"""Subsets of a pool as weighted multisets of uids, and what one does with several of them.

A subset holds each of its uids once, ascending, with a weight: how many times the uid stands in it.
With the weights a and b of a uid in two subsets (0 where it is absent):

==========  ============  ===============================
intersect   min(a, b)     as often as both have it
union       max(a, b)     as often as one of them has it
add         a + b         both, one after the other
minus       max(a - b, 0) a, b's copies taken out of it
==========  ============  ===============================

With weights of 1 these are the operations on sets (but for `add`). All of them are merges of sorted
columns: no Python object a uid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from selffilter.randomness import hash_rows


@dataclass(frozen=True)
class Subset:
    """Uids with weights.

    Attributes:
        uids_N2: (N, 2) uint64, hi and lo; ascending, each uid once.
        weights_N: (N,) int64, at least 1.
    """

    uids_N2: NDArray[np.uint64]
    weights_N: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of uids, each counted once."""
        return len(self.uids_N2)

    @property
    def samples(self) -> int:
        """Number of uids, each counted as often as its weight."""
        return int(self.weights_N.sum())


def subset_of(uids_M2: NDArray[np.uint64], weights_M: NDArray[np.int64] | None = None) -> Subset:
    """Gather uids into a subset; the weights of a uid that stands several times add up.

    Args:
        uids_M2: (M, 2) uint64, in any order; quick if they ascend.
        weights_M: (M,) of at least 0; those of 0 are left out. None: 1 each.
    """
    if not is_ascending(uids_M2):
        order = ascending_order(uids_M2)
        uids_M2 = uids_M2[order]
        weights_M = None if weights_M is None else weights_M[order]
    starts = np.flatnonzero(_is_first(uids_M2))
    if weights_M is None:
        return Subset(uids_M2[starts], np.diff(np.append(starts, len(uids_M2))).astype(np.int64))
    # reduceat has no answer for an empty column.
    totals = np.add.reduceat(weights_M, starts) if len(starts) else weights_M
    there = totals > 0
    return Subset(uids_M2[starts[there]], totals[there].astype(np.int64))


def intersect(subsets: Sequence[Subset]) -> Subset:
    """Return what stands in all of them, as often as in each."""
    return _combine(subsets, np.minimum)


def union(subsets: Sequence[Subset]) -> Subset:
    """Return what stands in one of them, as often as there."""
    return _combine(subsets, np.maximum)


def add(subsets: Sequence[Subset]) -> Subset:
    """Return all of them together; weights add up."""
    return _combine(subsets, np.add)


def minus(subsets: Sequence[Subset]) -> Subset:
    """Return the first without the copies that the others hold."""
    return _combine(subsets, lambda a, b: np.maximum(a - b, 0))


def sample(subset: Subset, count: int, seed: int) -> Subset:
    """Draw `count` of a subset's samples uniformly, without replacement.

    A uid of weight m takes part m times. What is drawn is a function of each uid and the seed, not
    of its place: a smaller draw with the same seed is part of a larger one.

    Raises:
        ValueError: If `count` is not between 0 and `subset.samples`.
    """
    if not 0 <= count <= subset.samples:
        raise ValueError(f"cannot draw {count} of {subset.samples} samples without replacement")
    place_M = np.repeat(np.arange(len(subset)), subset.weights_N)
    ends = np.cumsum(subset.weights_N)
    copy_M = np.arange(len(place_M)) - np.repeat(ends - subset.weights_N, subset.weights_N)
    chosen = np.argsort(hash_uids(subset.uids_N2[place_M], seed, copy_M), kind="stable")[:count]
    weights = np.bincount(place_M[chosen], minlength=len(subset))
    return Subset(subset.uids_N2[weights > 0], weights[weights > 0].astype(np.int64))


@dataclass(frozen=True)
class Comparison:
    """How much some subsets have in common.

    Attributes:
        uids_K: (K,) int64, uids in each.
        samples_K: (K,) int64, counted with weights.
        overlap_KK: (K, K) int64, samples of the intersection of each two.
        jaccard_KK: (K, K) float64 in [0, 1], the same over the samples of their union; 1 for two
            empty ones.
    """

    uids_K: NDArray[np.int64]
    samples_K: NDArray[np.int64]
    overlap_KK: NDArray[np.int64]
    jaccard_KK: NDArray[np.float64]


def compare(subsets: Sequence[Subset]) -> Comparison:
    """Compare each two of some subsets."""
    samples_K = np.array([s.samples for s in subsets], dtype=np.int64)
    overlap_KK = np.diag(samples_K)
    for i, a in enumerate(subsets):
        for j in range(i):
            overlap_KK[i, j] = overlap_KK[j, i] = intersect([a, subsets[j]]).samples
    # min + max of two weights is their sum, so the union needs no merge of its own.
    union_KK = samples_K[:, None] + samples_K[None, :] - overlap_KK
    jaccard_KK = np.where(union_KK > 0, overlap_KK / np.maximum(union_KK, 1), 1.0)
    uids_K = np.array([len(s) for s in subsets], dtype=np.int64)
    return Comparison(uids_K, samples_K, overlap_KK, jaccard_KK)


def is_ascending(uids_N2: NDArray[np.uint64]) -> bool:
    """Whether uids ascend; a uid may stand several times."""
    hi, lo = uids_N2[:, 0], uids_N2[:, 1]
    step = 1 << 20  # a memory-mapped file is looked at piece by piece
    for begin in range(0, len(hi) - 1, step):
        h, low = hi[begin : begin + step + 1], lo[begin : begin + step + 1]
        if ((h[1:] < h[:-1]) | ((h[1:] == h[:-1]) & (low[1:] < low[:-1]))).any():
            return False
    return True


def ascending_order(uids_N2: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return an order in which uids ascend, (N,) int64.

    As ``np.lexsort((lo, hi))``, but for uids that are equal, and that sorts both columns in full.
    Random uids differ in their first half, so that one sort is enough for almost all.
    """
    hi, lo = np.ascontiguousarray(uids_N2[:, 0]), uids_N2[:, 1]
    order = np.argsort(hi)
    tied = hi[order[1:]] == hi[order[:-1]]
    wrong = tied & (lo[order[1:]] < lo[order[:-1]])
    if wrong.any():
        # Everything of equal hi is sorted by lo; these places are runs, and stay where they are.
        places = np.flatnonzero(np.append(tied, False) | np.append(False, tied))
        rows = order[places]
        order[places] = rows[np.lexsort((lo[rows], hi[rows]))]
    return order


def hash_uids(
    uids_N2: NDArray[np.uint64], seed: int, copy_N: NDArray[np.int64] | None = None
) -> NDArray[np.uint64]:
    """Hash uids, and the numbers of their copies if asked: uniform on [0, 2^64), (N,) uint64."""
    hashed = hash_rows(uids_N2[:, 0].view(np.int64), seed, "uid")
    hashed = hash_rows((hashed ^ uids_N2[:, 1]).view(np.int64), seed, "uid")
    if copy_N is None:
        return hashed
    return hash_rows((hashed ^ copy_N.view(np.uint64)).view(np.int64), seed, "copy")


def _combine(
    subsets: Sequence[Subset],
    weight: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64]],
) -> Subset:
    return reduce(lambda a, b: _combine_two(a, b, weight), subsets)


def _combine_two(
    a: Subset,
    b: Subset,
    weight: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64]],
) -> Subset:
    both = np.concatenate([a.uids_N2, b.uids_N2])
    order = ascending_order(both)
    ordered = both[order]
    first = _is_first(ordered)
    group = np.cumsum(first) - 1
    weights = np.zeros((2, int(first.sum())), dtype=np.int64)
    of_a = order < len(a)
    weights[0, group[of_a]] = a.weights_N[order[of_a]]
    weights[1, group[~of_a]] = b.weights_N[order[~of_a] - len(a)]
    result = weight(weights[0], weights[1])
    there = result > 0
    return Subset(ordered[first][there], result[there])


def _is_first(uids_N2: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Mark the uids that differ from the one before."""
    first = np.ones(len(uids_N2), dtype=bool)
    first[1:] = (uids_N2[1:, 0] != uids_N2[:-1, 0]) | (uids_N2[1:, 1] != uids_N2[:-1, 1])
    return first
