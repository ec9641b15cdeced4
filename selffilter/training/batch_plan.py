"""Which rows stand in which global batch: arithmetic, known ahead, any batch by itself.

The order is a function of (what is selected, seed, round, step); ranks, workers and restarts have
no part in it. A *pass* is one walk over the rows with at least that weight: a row of weight m
stands in m passes of an epoch. A pass goes over a seeded permutation of the shards, cut into
windows of about `window_batches` batches; inside a window the rows are in a seeded order. Memory
is that of one window. A batch never spans two passes, so no row stands twice in one batch; the
rows left at the end of a pass (less than a batch) wait for another epoch's order.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from selffilter.errors import UserError
from selffilter.randomness import hash_rows, shuffled

Rows = NDArray[np.int64]


class WeightedRows(Protocol):
    """What a plan needs to know of the rows it goes over."""

    @property
    def counts_PS(self) -> NDArray[np.int64]:
        """Rows of weight above p in shard s, (P, S); P is the largest weight."""

    def rows(self, shard: int, pass_: int) -> Rows:
        """Return the rows of a shard with weight above `pass_`, as many as ``counts_PS`` says."""


class _Order(NamedTuple):
    """A pass in order: shards, and where each window begins."""

    shards: NDArray[np.int64]
    window_first: NDArray[np.int64]  # index into `shards` of each window's first shard
    window_start: NDArray[np.int64]  # position in the pass of its first row


class _Window(NamedTuple):
    """Rows in the order they are trained on, and where each stands in the order of the shards."""

    rows: Rows
    place: NDArray[np.int64]


class BatchPlan:
    """The batches of one round.

    Args:
        rows: What is trained on.
        global_batch_size: Rows a batch, B, over all ranks.
        seed: The run's seed.
        round_: The round, so that rounds have orders of their own.
        window_batches: A window holds about this many batches (and at least one shard).

    Raises:
        UserError: If the rows do not fill one batch.
    """

    def __init__(
        self,
        rows: WeightedRows,
        global_batch_size: int,
        seed: int,
        round_: int,
        window_batches: int = 64,
    ) -> None:
        self._rows = rows
        self._key = (seed, "order", round_)
        self._window_rows = window_batches * global_batch_size
        self.global_batch_size = global_batch_size
        self.rows_P = rows.counts_PS.sum(axis=1)
        self.batches_P = self.rows_P // global_batch_size
        self.batches_per_epoch = int(self.batches_P.sum())
        if self.batches_per_epoch == 0:
            raise UserError(
                f"{int(self.rows_P[0]) if len(self.rows_P) else 0} rows to train on do not fill "
                f"one batch of {global_batch_size}: lower train.global_batch_size, or raise "
                "select.keep_fraction or select.diverse_fraction."
            )
        # A batch may lie across a window's end, and one looks ahead for what to fetch.
        self._order = lru_cache(maxsize=2)(self._make_order)
        self._window = lru_cache(maxsize=4)(self._make_window)

    def batch(self, step: int) -> Rows:
        """Return the rows of a global batch, (B,) int64; `step` counts from the round's first."""
        epoch, pass_, index = self._place(step)
        first = index * self.global_batch_size
        parts = list(self._between(epoch, pass_, first, first + self.global_batch_size))
        rows = np.concatenate([part.rows for part in parts])
        return rows[np.argsort(np.concatenate([part.place for part in parts]))]

    def rank_batch(self, step: int, rank: int, ranks: int) -> Rows:
        """Return the part of a global batch that one rank reads, (B / ranks,) int64.

        Of a window's shards each rank gets its own, but for some at the borders. With nodes for
        ranks it is the part of a node.
        """
        size = self.global_batch_size // ranks
        return self.batch(step)[rank * size : (rank + 1) * size]

    def stretches(self, first: int, end: int) -> Iterator[range]:
        """Cut steps where a new window begins: what is read of a shard falls into one stretch."""
        begin = first
        for step in range(first + 1, end):
            if self._window_of(step) != self._window_of(step - 1):
                yield range(begin, step)
                begin = step
        if begin < end:
            yield range(begin, end)

    def consumed(self, steps: int) -> Iterator[Rows]:
        """Yield the rows of the first `steps` batches, a window's part at a time."""
        step = 0
        while step < steps:
            epoch, pass_, index = self._place(step)
            last = min(int(self.batches_P[pass_]), index + steps - step)
            parts = self._between(
                epoch, pass_, index * self.global_batch_size, last * self.global_batch_size
            )
            yield from (part.rows for part in parts)
            step += last - index

    def times(self, rows_K: Rows, shard_K: Rows, weight_K: Rows, steps: int) -> Rows:
        """Return how many times the first `steps` batches meet some rows.

        What `exposures` says of all rows, for a few of them: of a pass that is over, or has not
        reached a row's window, nothing is read.

        Args:
            rows_K: (K,) int64.
            shard_K: The shard of each.
            weight_K: The weight of each; 0: it is not among the plan's rows.
            steps: Batches from the round's first.

        Returns:
            (K,) int64.
        """
        times_K = np.zeros(len(rows_K), dtype=np.int64)
        step = 0
        while step < steps:
            epoch, pass_, _ = self._place(step)
            batches = min(int(self.batches_P[pass_]), steps - step)
            step += batches
            end = batches * self.global_batch_size
            there = np.flatnonzero(weight_K > pass_)
            if end == self.rows_P[pass_]:
                times_K[there] += 1
                continue
            order = self._order(epoch, pass_)
            by_shard = np.argsort(order.shards)
            place_n = by_shard[np.searchsorted(order.shards, shard_K[there], sorter=by_shard)]
            window_n = np.searchsorted(order.window_first, place_n, side="right") - 1
            start_w = np.append(order.window_start, self.rows_P[pass_])
            times_K[there[start_w[window_n + 1] <= end]] += 1
            for k, window in zip(there.tolist(), window_n.tolist(), strict=True):
                if start_w[window] < end < start_w[window + 1]:
                    met = self._window(epoch, pass_, window).rows[: end - start_w[window]]
                    times_K[k] += int((met == rows_K[k]).any())
        return times_K

    def _place(self, step: int) -> tuple[int, int, int]:
        """Return epoch, pass and the batch's number in the pass."""
        epoch, in_epoch = divmod(step, self.batches_per_epoch)
        ends = np.cumsum(self.batches_P)
        pass_ = int(np.searchsorted(ends, in_epoch, side="right"))
        return epoch, pass_, int(in_epoch - (ends[pass_] - self.batches_P[pass_]))

    def _window_of(self, step: int) -> tuple[int, int, int]:
        """Return epoch, pass and number of the window that a batch begins in."""
        epoch, pass_, index = self._place(step)
        starts = self._order(epoch, pass_).window_start
        first = index * self.global_batch_size
        return epoch, pass_, int(np.searchsorted(starts, first, side="right")) - 1

    def _between(self, epoch: int, pass_: int, first: int, end: int) -> Iterator[_Window]:
        """Yield what stands at the positions [first, end) of a pass, window by window."""
        starts = self._order(epoch, pass_).window_start
        window = int(np.searchsorted(starts, first, side="right")) - 1
        while window < len(starts) and starts[window] < end:
            whole = self._window(epoch, pass_, window)
            start = int(starts[window])
            part = slice(max(0, first - start), end - start)
            if len(whole.rows[part]):
                yield _Window(whole.rows[part].copy(), start + whole.place[part])
            window += 1

    def _make_order(self, epoch: int, pass_: int) -> _Order:
        counts = self._rows.counts_PS[pass_]
        present = np.flatnonzero(counts).astype(np.int64)
        shards = present[np.argsort(hash_rows(present, *self._key, epoch, pass_), kind="stable")]
        start = np.concatenate([[0], np.cumsum(counts[shards])[:-1]])
        window_of = start // self._window_rows
        window_first = np.flatnonzero(np.diff(window_of, prepend=-1))
        return _Order(shards, window_first, start[window_first])

    def _make_window(self, epoch: int, pass_: int, window: int) -> _Window:
        order = self._order(epoch, pass_)
        first = order.window_first[window]
        last = (
            order.window_first[window + 1]
            if window + 1 < len(order.window_first)
            else len(order.shards)
        )
        rows = np.concatenate(
            [self._rows.rows(int(shard), pass_) for shard in order.shards[first:last]]
        )
        mixed = shuffled(rows, *self._key, epoch, pass_, window)
        by_row = np.argsort(rows)
        return _Window(mixed, by_row[np.searchsorted(rows, mixed, sorter=by_row)])


def exposures(plan: BatchPlan, steps: int) -> tuple[Rows, NDArray[np.int64]]:
    """Return what a round consumed: rows (ascending) and how many times each.

    Derived from the plan, so it is right after any number of restarts.
    """
    consumed = list(plan.consumed(steps))
    if not consumed:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    rows, times = np.unique(np.concatenate(consumed), return_counts=True)
    return rows, times.astype(np.int64)


class WholeBase:
    """The base, each row as often as its weight: what the bootstrap round trains on."""

    def __init__(self, base: _Base) -> None:
        self._base = base
        self.counts_PS = base.counts_PS

    def rows(self, shard: int, pass_: int) -> Rows:
        """Return the base's rows of a shard with weight above `pass_`."""
        rows, weights = self._base.weighted_rows(shard)
        return rows[weights > pass_]


class _Base(Protocol):
    counts_PS: NDArray[np.int64]

    def weighted_rows(self, shard: int) -> tuple[Rows, NDArray[np.int32]]: ...
