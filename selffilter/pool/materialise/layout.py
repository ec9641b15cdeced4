"""Which row stands where in the new shards, and which shards are read for together. Arithmetic."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from selffilter.randomness import hash_rows, shuffled


class Layout(NamedTuple):
    """The samples of the new shards, shard after shard.

    Attributes:
        rows_E: (E,) int64, the row of each sample.
        times_E: (E,) int32. Where each row is written once: its weight. Where it is written as
            often as its weight: the number of the copy, from 0.
        first_S: (S + 1,) int64; shard s holds the samples ``first_S[s]:first_S[s + 1]``.
    """

    rows_E: NDArray[np.int64]
    times_E: NDArray[np.int32]
    first_S: NDArray[np.int64]

    @property
    def shards(self) -> int:
        """Number of shards, S."""
        return len(self.first_S) - 1


def lay_out(
    rows_N: NDArray[np.int64],
    weights_N: NDArray[np.int64],
    *,
    samples_per_shard: int,
    seed: int,
    repeat: bool = False,
) -> Layout:
    """Deal rows to shards like cards: shuffled, one to each shard in turn.

    All shards are equally large, to a sample. The copies of a row follow each other before dealing,
    so they get to different shards as long as there are enough shards, and which shards stand next
    to each other is hashed too.

    Args:
        rows_N: (N,) int64, each row once.
        weights_N: (N,) of at least 1.
        samples_per_shard: A shard holds so many samples at most.
        seed: Of the order.
        repeat: Write a row as often as its weight, instead of once.
    """
    rows = shuffled(rows_N, seed, "materialise")
    order = np.argsort(rows_N, kind="stable")
    weights = weights_N[order][np.searchsorted(rows_N, rows, sorter=order)]
    if repeat:
        ends = np.cumsum(weights)
        times = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - weights, weights)
        rows = np.repeat(rows, weights)
    else:
        times = weights
    shards = max(1, -(-len(rows) // samples_per_shard))
    turn = shuffled(np.arange(shards), seed, "materialise", "shards")
    counts = len(rows) // shards + (turn < len(rows) % shards)
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    # Sample j goes to the shard whose turn is j mod S.
    round_of = np.arange(len(rows)) - np.repeat(first[:-1], counts)
    dealt = np.repeat(turn, counts) + shards * round_of
    return Layout(rows[dealt], times[dealt].astype(np.int32), first)


def order_in_shard(rows_n: NDArray[np.int64], shard: int, seed: int) -> NDArray[np.int64]:
    """Return the order of a shard's samples, (n,) int64.

    Dealing leaves them shuffled, but for the copies of a row that outnumber the shards.
    """
    places = np.arange(len(rows_n))
    return np.argsort(hash_rows(places, seed, "materialise", "place", shard), kind="stable")


def group_shards(
    todo: NDArray[np.int64], bytes_S: NDArray[np.int64], budget: int, workers: int
) -> list[list[int]]:
    """Put shards together that are read for in one sweep over the source.

    Args:
        todo: The shards to write.
        bytes_S: What the samples of each shard take.
        budget: Bytes that a group may take; a shard that is larger is a group by itself.
        workers: Groups are made small enough for all of them to have one.
    """
    most = -(-len(todo) // max(1, workers))
    groups: list[list[int]] = []
    held = 0
    for shard in todo.tolist():
        size = int(bytes_S[shard])
        if not groups or held + size > budget or len(groups[-1]) >= most:
            groups.append([])
            held = 0
        groups[-1].append(shard)
        held += size
    return groups


def cut_by_bytes(bytes_E: NDArray[np.int64], budget: int) -> list[slice]:
    """Cut a sequence of samples into parts of at most `budget` bytes, and of at least a sample."""
    ends = np.cumsum(bytes_E)
    parts: list[slice] = []
    begin = 0
    while begin < len(ends):
        before = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + budget, side="right")))
        parts.append(slice(begin, end))
        begin = end
    return parts
