"""What data loader processes are working on, so that the end of one can be told by its shards.

A worker that the system kills (memory has run out) leaves no word; torch then raises in this
process, from a signal handler: anywhere at all, not where the batch is waited for. So what was
handed out is noted here, and whoever meets the error asks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from multiprocessing.sharedctypes import RawArray
from typing import Any

_DIED = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)(.*)", re.DOTALL)
_SILENT = re.compile(r"DataLoader timed out after ([\d.]+) seconds")
_MOST_SHARDS = 8

_current: InFlight | None = None


class InFlight:
    """The requests that a loader has handed out to its workers and not got back.

    Args:
        requests: A sized iterable of requests: what the loader is to hand out.
        workers: How many workers.
        shards_of: Names of the shards that a request reads; None: it cannot be told.

    Attributes:
        at: The number of the request that each worker works on, written by the worker; -1: none.
            Shared memory without a lock, which a killed process may hold.
        pids: The workers' process numbers.
    """

    def __init__(
        self, requests: Any, workers: int, shards_of: Callable[[Any], list[str]] | None
    ) -> None:
        self._requests, self._shards_of = requests, shards_of
        self._out: dict[int, Any] = {}
        self._back = 0
        self.at: Any = RawArray("q", [-1] * workers)
        self.pids: list[int] = []

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        """Hand out requests with their numbers, noting each."""
        for number, request in enumerate(self._requests):
            self._out[number] = request
            yield number, request

    def begins(self, loader: Any) -> Iterator[Any]:
        """Return an iterator over a loader of these requests, whose workers begin with it."""
        global _current
        self._out.clear()
        self._back = 0
        self.at[:] = [-1] * len(self.at)
        iterator: Iterator[Any] = iter(loader)
        # Of torch's own iterator; without it a death is told by what all workers have in hand.
        self.pids = [process.pid for process in getattr(iterator, "_workers", [])]
        _current = self if len(self.at) else None
        return iterator

    def came_back(self) -> None:
        """Told when a batch has come: they come in order."""
        del self._out[self._back]
        self._back += 1

    def ends(self) -> None:
        """Told when all have come back."""
        global _current
        if _current is self:
            _current = None

    def shards(self, pids: list[int]) -> list[str]:
        """Return the shards that these workers are reading; all workers' if they are not known."""
        theirs = [at for pid, at in zip(self.pids, self.at, strict=False) if pid in pids]
        requests = [self._out[number] for number in theirs or self.at if number in self._out]
        if self._shards_of is None:
            return []
        return list(dict.fromkeys(name for each in requests for name in self._shards_of(each)))


def loss_of(error: BaseException) -> str | None:
    """Say which worker was lost, over which shards, if that is what an error is about; else None.

    Args:
        error: What was raised, anywhere in this process.
    """
    if not isinstance(error, RuntimeError):
        return None
    died, silent = _DIED.search(str(error)), _SILENT.search(str(error))
    if died is not None:
        pids = [int(word) for word in died[1].split(",")]
        killed = "Killed" in died[2] or "unexpectedly" in died[2]
        why = " (perhaps memory ran out: use fewer hardware.workers)" if killed else ""
        said = f"data loader process {died[1]} {died[2].strip().rstrip('.')}{why}"
        return said + _over([] if _current is None else _current.shards(pids))
    if silent is not None:
        said = f"no data loader process has brought a batch for {float(silent[1]):,.0f} s"
        return said + _over([] if _current is None else _current.shards([]))
    return None


def _over(shards: list[str]) -> str:
    if not shards:
        return ""
    more = f" and {len(shards) - _MOST_SHARDS:,} more" if len(shards) > _MOST_SHARDS else ""
    return f", while reading {', '.join(shards[:_MOST_SHARDS])}{more}"


def reading_now() -> str:
    """Return which shards the workers of this process have in hand, "" if there are none."""
    return "" if _current is None else _over(_current.shards([])).removeprefix(", while ")
