"""The best so many of very many rows, exactly, and everybody's rank; some bytes a row.

Scores become 32-bit *keys*, the best score the smallest. What is sorted is an array of bare keys:
128 million take about a second, less than it takes to read them, and tell both where the cut is and
how many rows are better than a given one. Rows themselves are never sorted, and only those whose
keys tie at the cut are asked for their uid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selffilter.selecting.scratch import Scratch, chunks
from selffilter.threads import several

Places = NDArray[np.int64]

KeysOf = Callable[[slice], NDArray[np.uint32]]
"""The keys of some places, (n,) uint32."""

UidsOf = Callable[[Places], NDArray[np.uint64]]
"""Places → (n, 2) uint64."""

LAST_KEY = np.uint32(0xFFFFFFFF)
_MANY_TIES = 1 << 22


def descending_keys(scores_n: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Return keys that order scores from the best to the worst; what is not finite comes last.

    A float's bits, read as an integer, order floats of one sign.
    """
    bits_n = (scores_n.astype(np.float32, copy=False) + np.float32(0)).view(np.uint32)  # -0 is 0
    negative_n = bits_n >> np.uint32(31) == 1
    keys_n = np.where(negative_n, bits_n, ~(bits_n | np.uint32(1 << 31)))
    keys_n[~np.isfinite(scores_n)] = LAST_KEY
    return keys_n


@dataclass(frozen=True)
class Ranking:
    """All scores in order.

    Attributes:
        keys_M: uint32, ascending: the best first.
    """

    keys_M: NDArray[np.uint32]

    @classmethod
    def of(
        cls, scores_N: NDArray[np.float32], among_N: NDArray[np.bool_], scratch: Scratch
    ) -> Ranking:
        """Rank the finite scores of some rows."""
        return cls(
            _sorted_keys(
                lambda part: descending_keys(scores_N[part]),
                among_N,
                int(among_N.sum()),
                scratch,
            )
        )

    def __len__(self) -> int:
        return len(self.keys_M)

    def ranks(self, scores_n: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return how many scores are strictly better than each, (n,) int64; -1 without a score.

        Equal scores share a rank; the best has 0.
        """
        ranks_n = np.empty(len(scores_n), np.int64)
        for part in chunks(len(scores_n)):
            keys = descending_keys(scores_n[part])
            order = np.argsort(keys)  # searching in order is ten times as fast as at random
            ranks = np.empty(len(keys), np.int64)
            ranks[order] = np.searchsorted(self.keys_M, keys[order], side="left")
            ranks[keys == LAST_KEY] = -1
            ranks_n[part] = ranks
        return ranks_n


def by_uid(uids_of: UidsOf) -> OrderOfTies:
    """Let ties go by (uid, place), the smaller one first."""
    return OrderOfTies(
        lambda places: np.lexsort((places, *uids_of(places).T[::-1])),
        lambda places: (uids_of(places)[:, 0] >> np.uint64(32)).astype(np.uint32),
    )


@dataclass(frozen=True)
class OrderOfTies:
    """What decides between rows of equal keys.

    Attributes:
        order: Places → the order in which they go.
        coarse_keys: Places → keys that agree with that order, so far as they go.
    """

    order: Callable[[Places], NDArray[np.int64]]
    coarse_keys: Callable[[Places], NDArray[np.uint32]]

    def first(self, places: Places, count: int, scratch: Scratch) -> Places:
        """Return the first so many of some places, in no order."""
        if count >= len(places):
            return places
        if len(places) <= _MANY_TIES:
            return places[self.order(places)[:count]]
        every = np.ones(len(places), bool)
        fine = OrderOfTies(lambda n: self.order(places[n]), lambda n: np.zeros(len(n), np.uint32))
        there = take(
            lambda part: self.coarse_keys(places[part]), every, count, fine, scratch=scratch
        )
        return places[there]


@dataclass(frozen=True)
class Quotas:
    """How many rows of each group may or must be taken.

    Attributes:
        codes_N: int32, the group of each row, from 0 to G - 1.
        low_G: int64, at least; no more than the group has.
        high_G: int64, at most.
    """

    codes_N: NDArray[np.int32]
    low_G: NDArray[np.int64]
    high_G: NDArray[np.int64]


def take(
    keys_of: KeysOf,
    among_N: NDArray[np.bool_],
    count: int,
    ties: OrderOfTies,
    *,
    quotas: Quotas | None = None,
    ranking: Ranking | None = None,
    scratch: Scratch | None = None,
) -> NDArray[np.bool_]:
    """Take the first `count` rows by their keys.

    With quotas there is one cut for all groups, but each has at least its low and at most its high
    number: a group gets ``clip(rows above the cut, low, high)``. So the whole is the best that the
    quotas allow, and it is `count` to a row unless the high numbers together are less.

    Args:
        keys_of: The keys of a chunk of all rows.
        among_N: Which rows may be taken.
        count: How many; no more than there are.
        ties: What decides between equal keys at the cut.
        quotas: Bounds for groups of rows.
        ranking: Of these very rows by these keys, if there is one: without quotas it spares a sort.
        scratch: Where arrays of a row each come from.

    Returns:
        (N,) bool.

    Raises:
        ValueError: If the low numbers are more than `count`, or more than a group has.
    """
    scratch = scratch or Scratch()
    taken_N: NDArray[np.bool_] = scratch.zeros(len(among_N), np.bool_)
    if quotas is None:
        quotas = _no_quotas(len(among_N))
        if ranking is None:
            count_there = int(among_N.sum())
            ranking = Ranking(_sorted_keys(keys_of, among_N, count_there, scratch))
        line = _Line(ranking.keys_M, np.array([0, len(ranking)], np.int64))
    else:
        line = _Line.of(keys_of, among_N, quotas, scratch)
    count = min(count, int(np.minimum(line.sizes_G, quotas.high_G).sum()))
    if count <= 0:
        return taken_N
    counts_G = line.shared_out(count, quotas, lambda key: _places(keys_of, among_N, key), ties)
    _mark(taken_N, keys_of, among_N, quotas.codes_N, line, counts_G, ties, scratch)
    return taken_N


def _no_quotas(count: int) -> Quotas:
    everyone = np.broadcast_to(np.int32(0), count)
    return Quotas(everyone, np.zeros(1, np.int64), np.array([count], np.int64))


@dataclass(frozen=True)
class _Line:
    """All keys, sorted inside their groups, one group behind the other.

    Attributes:
        keys_M: uint32; or uint64 with the group in the upper half.
        bounds_G1: int64; where groups begin and end.
    """

    keys_M: NDArray[np.uint32] | NDArray[np.uint64]
    bounds_G1: NDArray[np.int64]

    @classmethod
    def of(
        cls, keys_of: KeysOf, among_N: NDArray[np.bool_], quotas: Quotas, scratch: Scratch
    ) -> _Line:
        count, groups = int(among_N.sum()), len(quotas.low_G)
        keys_M = scratch.zeros(count, np.uint64)
        at = 0
        for part in chunks(len(among_N)):
            among = among_N[part]
            upper = quotas.codes_N[part][among].astype(np.uint64) << np.uint64(32)
            keys = upper | keys_of(part)[among]
            keys_M[at : at + len(keys)] = keys
            at += len(keys)
        keys_M.sort()
        firsts_G1 = np.arange(groups + 1, dtype=np.uint64) << np.uint64(32)
        return cls(keys_M, np.searchsorted(keys_M, firsts_G1).astype(np.int64))

    @property
    def sizes_G(self) -> NDArray[np.int64]:
        return np.diff(self.bounds_G1)

    def up_to(self, key: int) -> NDArray[np.int64]:
        """Return how many rows of each group have at most this key, (G,)."""
        groups = len(self.bounds_G1) - 1
        if groups == 1:
            below = np.searchsorted(self.keys_M, np.uint32(key), side="right") if key >= 0 else 0
            return np.array([below], np.int64)
        if key < 0:
            return np.zeros(groups, np.int64)
        wanted_G = np.arange(groups, dtype=np.uint64) << np.uint64(32) | np.uint64(key)
        return np.searchsorted(self.keys_M, wanted_G, side="right") - self.bounds_G1[:-1]

    def key_at(self, counts_G: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Return the key of each group's row number ``counts_G - 1``; 0 for a count of 0."""
        if not len(self.keys_M):
            return np.zeros(len(counts_G), np.uint32)
        keys_G = self.keys_M[np.maximum(self.bounds_G1[:-1] + counts_G - 1, 0)]
        return np.where(counts_G > 0, keys_G & np.uint64(LAST_KEY), 0).astype(np.uint32)

    def shared_out(
        self,
        count: int,
        quotas: Quotas,
        places_with: Callable[[int], Places],
        ties: OrderOfTies,
    ) -> NDArray[np.int64]:
        """Return how many rows each group gives, (G,) int64; they sum to `count`."""
        low_G, high_G = quotas.low_G, np.minimum(quotas.high_G, self.sizes_G)
        if (low_G > high_G).any() or low_G.sum() > count:
            raise ValueError("the least numbers of the groups are more than there are")
        if len(low_G) == 1:
            return np.array([count], np.int64)

        def share(key: int) -> NDArray[np.int64]:
            return np.clip(self.up_to(key), low_G, high_G)

        below, cut = -1, int(LAST_KEY)
        while cut - below > 1:
            middle = (below + cut) // 2
            below, cut = (middle, cut) if share(middle).sum() < count else (below, middle)
        counts_G = share(below)
        lacking = count - int(counts_G.sum())
        if lacking and (share(cut) - counts_G).sum() == lacking:
            return share(cut)
        if lacking:
            # Rows at the cut itself, in the order of ties, of groups that have room for them.
            places = places_with(cut)
            places = places[ties.order(places)]
            code_n = quotas.codes_N[places]
            place_in_group_n = self.up_to(cut - 1)[code_n] + _counted_up(code_n)
            room_n = (low_G[code_n] <= place_in_group_n) & (place_in_group_n < high_G[code_n])
            chosen = code_n[room_n][:lacking]
            counts_G = counts_G + np.bincount(chosen, minlength=len(low_G))
        return counts_G


def _mark(
    taken_N: NDArray[np.bool_],
    keys_of: KeysOf,
    among_N: NDArray[np.bool_],
    codes_N: NDArray[np.int32],
    line: _Line,
    counts_G: NDArray[np.int64],
    ties: OrderOfTies,
    scratch: Scratch,
) -> None:
    """Mark the first ``counts_G`` rows of each group."""
    cut_G, some_G = line.key_at(counts_G), counts_G > 0
    one_group = len(counts_G) == 1

    def mark(part: slice) -> Places:
        """Mark what is above the cut; return what is at it."""
        keys = keys_of(part)
        cut = cut_G[0] if one_group else cut_G[codes_N[part]]
        some = among_N[part] if one_group else among_N[part] & some_G[codes_N[part]]
        taken_N[part] = some & (keys < cut)
        return part.start + np.flatnonzero(some & (keys == cut))

    places = np.concatenate(list(several(mark, chunks(len(among_N)))))
    if one_group:
        lacking = int(counts_G[0]) - int(taken_N.sum())
        taken_N[ties.first(places, lacking, scratch)] = True
        return
    order = np.lexsort((_inverse(ties.order(places)), codes_N[places]))
    places = places[order]
    code_n = codes_N[places]
    before_G = np.bincount(codes_N[taken_N], minlength=len(counts_G))
    taken_N[places[_counted_up(code_n) < (counts_G - before_G)[code_n]]] = True


def _places(keys_of: KeysOf, among_N: NDArray[np.bool_], key: int) -> Places:
    def find(part: slice) -> Places:
        return part.start + np.flatnonzero(among_N[part] & (keys_of(part) == key))

    return np.concatenate(list(several(find, chunks(len(among_N)))))


def _sorted_keys(
    keys_of: KeysOf, among_N: NDArray[np.bool_], count: int, scratch: Scratch
) -> NDArray[np.uint32]:
    keys_M: NDArray[np.uint32] = scratch.zeros(count, np.uint32)
    parts = list(chunks(len(among_N)))
    ends = np.cumsum([np.count_nonzero(among_N[part]) for part in parts])

    def fill(job: tuple[slice, int]) -> None:
        part, end = job
        keys = keys_of(part)[among_N[part]]
        keys_M[end - len(keys) : end] = keys

    for _ in several(fill, zip(parts, ends, strict=True)):
        pass
    keys_M.sort()
    return keys_M


def _counted_up(codes_n: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return how many equal codes stand before each, (n,) int64."""
    order = np.argsort(codes_n, kind="stable")
    ordered = codes_n[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    lengths = np.diff(np.append(starts, len(ordered)))
    counted = np.empty(len(codes_n), np.int64)
    counted[order] = np.arange(len(ordered)) - np.repeat(starts, lengths)
    return counted


def _inverse(order_n: NDArray[np.int64]) -> NDArray[np.int64]:
    place_n = np.empty(len(order_n), np.int64)
    place_n[order_n] = np.arange(len(order_n))
    return place_n
