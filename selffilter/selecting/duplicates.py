"""Rows whose image stands in the pool already: the same image, or one that is nearly the same.

One rule for both: rows are gone through from the best to the worst, and a row is removed if it is a
duplicate of one that *stays*. So each removed row has a better one in its place that is a duplicate
of it, and of rows that stay no two are duplicates (where they were compared). Best is the highest
merit, no merit at all the worst; ties go by (uid, row).

Near-duplicates are looked for inside the clusters of the embeddings, as by SemDeDup (Abbas et al.,
arXiv 2303.09540): a pair whose image embeddings have a cosine of at least a threshold. Three things
are not as there. SemDeDup keeps what is farthest from its centroid, here the best row is kept.
There a row goes for any pair with an earlier row, also one that is removed itself, so that a chain
of small steps removes rows unlike anything that is left; here it does not. And clusters of any
size are compared in full, in blocks.

What a threshold means depends on the model. With a flood of slightly altered copies planted among
24,596 emoji, a model of 7 M parameters that had seen 205 k samples removed 99 % of the copies and
47 % of all other rows at a cosine of 0.95; at 0.99, 93 % and 17 % (men and women, clocks and signs
that differ in a detail); at 0.995, 83 % and 11 %.

Rows are numbered 0 to N − 1; every array of N has a place for each of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from selffilter.selecting.cosines import Features, FeaturesOf, alike, first_within
from selffilter.selecting.hashes import repeated_hashes, rows_with
from selffilter.selecting.order import UidsOf, descending_keys
from selffilter.selecting.scratch import Scratch, chunks

Rows = NDArray[np.int64]

_ROWS_AT_ONCE = 1 << 16
_SIDE = 1024  # rows that are compared with each other one by one


class Duplicates(NamedTuple):
    """Rows that are removed, ascending, and what is there in their place.

    Attributes:
        rows_R: (R,) int64.
        of_R: (R,) int64: for each of them the row that stays.
    """

    rows_R: Rows
    of_R: Rows

    @classmethod
    def none(cls) -> Duplicates:
        """No row is one."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64))

    def then(self, later: Duplicates) -> Duplicates:
        """Return these and those that were found among what was left, as one.

        What stood for a row and was removed later is replaced by what stands for that.
        """
        place_R = np.searchsorted(later.rows_R, self.of_R)
        of_R = self.of_R.copy()
        moved_R = np.zeros(len(of_R), bool)
        inside = place_R < len(later.rows_R)
        moved_R[inside] = later.rows_R[place_R[inside]] == of_R[inside]
        of_R[moved_R] = later.of_R[place_R[moved_R]]
        return _ascending(
            np.concatenate([self.rows_R, later.rows_R]), np.concatenate([of_R, later.of_R])
        )


def exact_duplicates(
    hashes_N: NDArray[np.uint64],
    merit_N: NDArray[np.float32],
    among_N: NDArray[np.bool_],
    uids_of: UidsOf,
    *,
    scratch: Scratch | None = None,
) -> Duplicates:
    """Find rows whose image has the hash of a better row's.

    Takes 8 bytes a row, and about 50 for each row that is not alone with its hash.

    Args:
        hashes_N: Of the images, (N,) uint64; `UNKNOWN_HASH`: not known.
        merit_N: Higher is better, NaN: none.
        among_N: Which rows may stay or be removed, (N,) bool.
        uids_of: Rows → (n, 2) uint64; asked of rows that tie.
        scratch: Where arrays of a row each come from.
    """
    repeated_G = repeated_hashes(hashes_N, among_N, scratch)
    if not len(repeated_G):
        return Duplicates.none()
    rows_M, group_M = rows_with(hashes_N, among_N, repeated_G)
    order_M = _best_first(group_M, merit_N[rows_M], rows_M, uids_of)
    rows_M, group_M = rows_M[order_M], group_M[order_M]
    first_M = _firsts(group_M)
    best_M = rows_M[first_M][np.cumsum(first_M) - 1]
    return _ascending(rows_M[~first_M], best_M[~first_M])


def near_duplicates(
    codes_N: NDArray[np.int32],
    merit_N: NDArray[np.float32],
    among_N: NDArray[np.bool_],
    uids_of: UidsOf,
    features_of: FeaturesOf,
    threshold: float,
    *,
    rows_at_once: int = _ROWS_AT_ONCE,
    scratch: Scratch | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Duplicates:
    """Find rows whose image is nearly that of a better row of the same cluster.

    Costs at most D operations for each pair of rows of a cluster, so N²·D/K where clusters are
    equally large. A row that several stay for is given to the best of them.

    Args:
        codes_N: Cluster of each row, int32; -1: none, such rows are not looked at.
        merit_N: Higher is better, NaN: none.
        among_N: Which rows may stay or be removed, (N,) bool.
        uids_of: Rows → (n, 2) uint64; asked of rows that tie.
        features_of: Of the images. Asked for whole clusters, as many as fit into `rows_at_once`,
            and of a larger one for so many rows at a time, each of them several times.
        threshold: A cosine of at least this makes two rows near-duplicates. The result does not
            depend on how features are cut into blocks: see `selffilter.selecting.cosines`.
        rows_at_once: Whose features are in memory, twice.
        scratch: Where arrays of a row each come from.
        progress: Called with the number of rows just gone through.

    Raises:
        ValueError: If the threshold is not above 0 and below 1. A cosine of exactly 1 is a matter
            of rounding; for images that are the same there are hashes.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"a threshold of {threshold} is not above 0 and below 1")
    removed, stays = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for rows_n, code_n in _by_cluster(codes_N, among_N, rows_at_once, scratch or Scratch()):
        order_n = _best_first(code_n, merit_N[rows_n], rows_n, uids_of)
        rows_n, code_n = rows_n[order_n], code_n[order_n]
        stands_for_n = _stand_ins(rows_n, code_n, features_of, threshold, rows_at_once)
        gone_n = stands_for_n >= 0
        removed.append(rows_n[gone_n])
        stays.append(rows_n[stands_for_n[gone_n]])
        progress(len(rows_n))
    return _ascending(np.concatenate(removed), np.concatenate(stays))


# --- nearly the same image --------------------------------------------------------------------


def _by_cluster(
    codes_N: NDArray[np.int32], among_N: NDArray[np.bool_], rows_at_once: int, scratch: Scratch
) -> Iterator[tuple[Rows, NDArray[np.int32]]]:
    """Yield rows and their clusters: whole clusters, as many as fit, or one that does not."""
    # Sorted as one number each, cluster and row: ten times as fast as sorting rows by cluster.
    count = int(np.count_nonzero(among_N & (codes_N >= 0)))
    members_M = scratch.zeros(count, np.uint64)
    at = 0
    for part in chunks(len(codes_N)):
        row_n = np.flatnonzero(among_N[part] & (codes_N[part] >= 0))
        code_n = codes_N[part][row_n].astype(np.uint64)
        row_n += part.start
        members_M[at : at + len(row_n)] = code_n << np.uint64(32) | row_n.astype(np.uint64)
        at += len(row_n)
    members_M.sort()
    for start, stop in _batches(_cluster_ends(members_M), rows_at_once):
        some = members_M[start:stop]
        row_n = (some & np.uint64(0xFFFFFFFF)).astype(np.int64)
        yield row_n, (some >> np.uint64(32)).astype(np.int32)


def _cluster_ends(members_M: NDArray[np.uint64]) -> list[int]:
    clusters = int(members_M[-1] >> np.uint64(32)) + 1 if len(members_M) else 0
    next_K = np.arange(1, clusters + 1, dtype=np.uint64) << np.uint64(32)
    return np.searchsorted(members_M, next_K).tolist()


def _batches(ends: list[int], rows_at_once: int) -> Iterator[tuple[int, int]]:
    start = stop = 0
    for end in ends:
        if end - start > rows_at_once and stop > start:
            yield start, stop
            start = stop
        stop = end
    if stop > start:
        yield start, stop


def _stand_ins(
    rows_n: Rows,
    code_n: NDArray[np.int32],
    features_of: FeaturesOf,
    threshold: float,
    rows_at_once: int,
) -> Rows:
    """Find what stands for each of some rows, in blocks.

    Args:
        rows_n: Whole clusters, one behind the other, the best row of each first.
        code_n: Which clusters.
        features_of: See `near_duplicates`.
        threshold: Likewise.
        rows_at_once: Likewise.

    Returns:
        Places in `rows_n`, (n,) int64; -1 where a row stays.
    """
    if len(rows_n) <= rows_at_once:
        features_nD = features_of(rows_n)
        bounds = [*np.flatnonzero(_firsts(code_n)).tolist(), len(rows_n)]
        parts = [np.empty(0, np.int64)]
        for start, stop in itertools.pairwise(bounds):
            inside = _greedy(features_nD[start:stop], threshold)
            parts.append(np.where(inside >= 0, inside + start, -1))
        return np.concatenate(parts)

    stands_n = np.full(len(rows_n), -1, np.int64)
    blocks = list(chunks(len(rows_n), rows_at_once))
    for number, block in enumerate(blocks):
        here = block.start + np.flatnonzero(stands_n[block] < 0)
        if not len(here):
            continue
        features = features_of(rows_n[here])
        inside = _greedy(features, threshold)
        stands_n[here] = np.where(inside >= 0, here[inside], -1)
        kept, features = here[inside < 0], features[inside < 0]
        for later in blocks[number + 1 :]:
            there = later.start + np.flatnonzero(stands_n[later] < 0)
            if len(there):
                first = first_within(features_of(rows_n[there]), features, threshold)
                stands_n[there[first >= 0]] = kept[first[first >= 0]]
    return stands_n


def _greedy(features_nD: Features, threshold: float) -> Rows:
    """Find what stands for each of some rows, the best first; -1 where a row stays."""
    stands_n = np.full(len(features_nD), -1, np.int64)
    for part in chunks(len(features_nD), _SIDE):
        here = part.start + np.flatnonzero(stands_n[part] < 0)
        features = features_nD[here]
        pairs = np.triu(alike(features, features, threshold), 1)
        for place in np.flatnonzero(pairs.any(axis=1)).tolist():
            if stands_n[here[place]] < 0:
                like = here[pairs[place]]
                stands_n[like[stands_n[like] < 0]] = here[place]
        stays = stands_n[here] < 0
        kept, features = here[stays], features[stays]
        rest = part.stop + np.flatnonzero(stands_n[part.stop :] < 0)
        first = first_within(features_nD[rest], features, threshold)
        stands_n[rest[first >= 0]] = kept[first[first >= 0]]
    return stands_n


# --- both ---------------------------------------------------------------------------------------


def _best_first(
    group_n: NDArray[np.integer],
    merit_n: NDArray[np.float32],
    rows_n: Rows,
    uids_of: UidsOf,
) -> NDArray[np.int64]:
    """Return the order by group, and in a group from the best to the worst row."""
    keys_n = group_n.astype(np.uint64) << np.uint64(32) | descending_keys(merit_n)
    order_n = np.argsort(keys_n)
    sorted_n = keys_n[order_n]
    tied_n = np.zeros(len(order_n), bool)
    tied_n[1:] = sorted_n[1:] == sorted_n[:-1]
    tied_n[:-1] |= tied_n[1:]
    places = np.flatnonzero(tied_n)
    if len(places):
        rows = rows_n[order_n[places]]
        uids = uids_of(rows)
        again = np.lexsort((rows, uids[:, 1], uids[:, 0], sorted_n[places]))
        order_n[places] = order_n[places][again]
    return order_n


def _firsts(group_n: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Tell where a group begins, (n,) bool; groups stand one behind the other."""
    first_n = np.ones(len(group_n), bool)
    first_n[1:] = group_n[1:] != group_n[:-1]
    return first_n


def _ascending(rows_R: Rows, of_R: Rows) -> Duplicates:
    order_R = np.argsort(rows_R)
    return Duplicates(rows_R[order_R], of_R[order_R])
