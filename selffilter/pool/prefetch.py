"""Fetching ahead: a process beside training that puts the rows of coming batches into packs.

Training goes on without it: what is not in a pack yet is read from the shard.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from selffilter.errors import StoreGone
from selffilter.pool.index import Pool
from selffilter.pool.packs import Packs
from selffilter.pool.row_reader import Reads, RowReader
from selffilter.pool.stores.find import is_far

_GROUP_BYTES = 64 << 20
_GROUP_SHARDS = 128
_LOOK_FOR_PARENT_S = 5.0


class Ahead(Protocol):
    """What the batch plan tells what will be needed."""

    def want(self, rows_N: NDArray[np.int64]) -> None:
        """Fetch rows soon; what was wanted before the last time may go."""

    def reads(self) -> Reads:
        """Return what was read ahead so far, and in how many requests."""


class NoAhead:
    """Nothing is fetched ahead."""

    def want(self, rows_N: NDArray[np.int64]) -> None:
        """Do nothing."""

    def reads(self) -> Reads:
        """Return nothing."""
        return Reads()


class Prefetcher:
    """Fetches in a process of its own, which ends with this one.

    Args:
        fetching: What the process does.
        share: Which of how many processes of this node this is: they divide the shards.
    """

    def __init__(self, fetching: Fetching, share: tuple[int, int]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pool, self._share = fetching.pool, share
        self._jobs: Any = context.Queue()
        self._counts: Any = context.Array("q", 2)
        self._process = context.Process(
            target=_serve, args=(fetching, self._jobs, self._counts, os.getpid()), daemon=True
        )
        self._process.start()

    def want(self, rows_N: NDArray[np.int64]) -> None:
        """See `Ahead`."""
        shard_N = self._pool.shard_of(rows_N)
        mine, of = self._share
        self._jobs.put(np.unique(rows_N[shard_N % of == mine]))

    def reads(self) -> Reads:
        """See `Ahead`."""
        read_bytes, requests = self._counts[:]
        return Reads(read_bytes=read_bytes, requests=requests)

    def close(self) -> None:
        """Stop; what is written stays."""
        self._process.terminate()
        self._process.join()
        self._jobs.cancel_join_thread()
        self._jobs.close()


@contextlib.contextmanager
def fetching_ahead(fetching: Fetching | None, share: tuple[int, int]) -> Iterator[Ahead]:
    """Fetch ahead while entered, if there is something to do; see `Prefetcher`."""
    if fetching is None:
        yield NoAhead()
        return
    prefetcher = Prefetcher(fetching, share)
    try:
        yield prefetcher
    finally:
        prefetcher.close()


class Fetching:
    """What the process does.

    Args:
        pool: The pool.
        packs: Where the rows go.
        members: Which members of a row.
        request_bytes: See `RowReader`.
        limits: Likewise; of a row with a larger member nothing is fetched.
    """

    def __init__(
        self,
        pool: Pool,
        packs: Packs,
        members: tuple[str, ...],
        request_bytes: int,
        limits: Mapping[str, int],
    ) -> None:
        self._limits = dict(limits)
        self.pool, self._packs, self._members = pool, packs, members
        # Reads what lies in the old packs, and the rest from the shards.
        self._reader = RowReader(pool, request_bytes, packs)
        self._wanted_before: set[str] = set()

    @property
    def reads(self) -> Reads:
        """What this has cost so far."""
        return self._reader.reads

    def fetch(self, rows_N: NDArray[np.int64]) -> None:
        """Put rows into packs, as far as there is room.

        Args:
            rows_N: (N,) int64, ascending.

        Raises:
            StoreGone: If a shard cannot be read.
        """
        shards, first = np.unique(self.pool.shard_of(rows_N), return_index=True)
        by_shard = dict(zip(shards.tolist(), np.split(rows_N, first[1:]), strict=True))
        by_shard = {
            shard: self._within_limits(shard, rows)
            for shard, rows in by_shard.items()
            if is_far(self.pool.location(shard))
        }
        wanted = {self.pool.fingerprint(shard) for shard in by_shard}
        todo = {s: rows for s, rows in by_shard.items() if not self._is_packed(s, rows)}
        for group in self._groups(todo):
            if not self._packs.make_room(
                sum(self._bytes(s, todo[s]) for s in group), wanted | self._wanted_before
            ):
                break
            self._pack({shard: todo[shard] for shard in group})
        self._wanted_before = wanted

    def _is_packed(self, shard: int, rows_n: NDArray[np.int64]) -> bool:
        fingerprint = self.pool.fingerprint(shard)
        pack = self._packs.open(fingerprint)
        local = rows_n - self.pool.first_row[shard]
        if pack is None or not pack.holds(self._members) or (pack.places(local) < 0).any():
            return False
        self._packs.used(fingerprint)
        return True

    def _within_limits(self, shard: int, rows_n: NDArray[np.int64]) -> NDArray[np.int64]:
        places = self.pool.places(shard)
        local = rows_n - self.pool.first_row[shard]
        over = [
            places[member][1][local] > limit
            for member, limit in self._limits.items()
            if member in self._members
        ]
        return rows_n[~np.logical_or.reduce(over)] if over else rows_n

    def _bytes(self, shard: int, rows_n: NDArray[np.int64]) -> int:
        places = self.pool.places(shard)
        local = rows_n - self.pool.first_row[shard]
        return int(sum(np.maximum(places[m][1][local], 0).sum() for m in self._members))

    def _groups(self, todo: dict[int, NDArray[np.int64]]) -> Iterator[list[int]]:
        """Cut into shards that are asked for at the same time and fit into memory together."""
        group: list[int] = []
        size = 0
        for shard, rows in todo.items():
            more = self._bytes(shard, rows)
            if group and (size + more > _GROUP_BYTES or len(group) == _GROUP_SHARDS):
                yield group
                group, size = [], 0
            group.append(shard)
            size += more
        if group:
            yield group

    def _pack(self, group: dict[int, NDArray[np.int64]]) -> None:
        found = iter(self._reader.read(np.concatenate(list(group.values())), self._members))
        for shard, rows in group.items():
            self._packs.write(
                self.pool.fingerprint(shard),
                rows - self.pool.first_row[shard],
                self._members,
                [next(found) for _ in rows],
            )


def _serve(fetching: Fetching, jobs: Any, counts: Any, parent: int) -> None:
    # The rank decides when to stop; Ctrl-C reaches the whole group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while os.getppid() == parent:
        try:
            rows = jobs.get(timeout=_LOOK_FOR_PARENT_S)
        except queue.Empty:
            continue
        # A shard that stays away, or a full disk: the data loader reads it itself, and says so if
        # that fails too.
        with contextlib.suppress(StoreGone, OSError):
            fetching.fetch(rows)
        counts[:] = [fetching.reads.read_bytes, fetching.reads.requests]
