"""Several processes that write groups of shards, and the one that commands them."""

from __future__ import annotations

import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from selffilter.errors import UserError
from selffilter.interrupt import Stopped, StopRequest
from selffilter.pool.child_processes import deaf_to_ctrl_c, end_with_parent
from selffilter.pool.index import Pool
from selffilter.pool.materialise.layout import Layout
from selffilter.pool.materialise.settings import ShardSettings
from selffilter.pool.materialise.shards import ShardWriter
from selffilter.progress import Bar
from selffilter.store import write_atomically

_POLL_S = 0.2


def lay_down(layout: Layout, folder: Path) -> Path:
    """Lay the layout where all processes can map it."""
    for name, column in layout._asdict().items():
        write_atomically(folder / f"{name}.npy", lambda file, c=column: np.save(file, c))  # type: ignore[misc]
    return folder


class WriterArguments(NamedTuple):
    """What a process needs to write shards; see `shards.ShardWriter`.

    Attributes:
        pool: The source.
        layout: Where `lay_down` put the layout.
        out: The folder.
        settings: What the shards are to look like.
        request_bytes: See `row_reader.RowReader`.
        budget: Bytes of the source that it may hold.
    """

    pool: Pool
    layout: Path
    out: Path
    settings: ShardSettings
    request_bytes: int
    budget: int

    def open(self) -> ShardWriter:
        """Return the writer."""
        columns = (np.load(self.layout / f"{name}.npy", mmap_mode="r") for name in Layout._fields)
        return ShardWriter(
            self.pool,
            Layout(*columns),
            self.out,
            self.settings,
            request_bytes=self.request_bytes,
            budget=self.budget,
        )


class _Worker:
    """What a process that writes has; `None` in the one that commands."""

    def __init__(self, arguments: WriterArguments, counter: Any, asked_to_stop: Any) -> None:
        self.writer = arguments.open()
        self.counter, self.asked_to_stop = counter, asked_to_stop
        self._unsaid, self._said_at = 0, time.monotonic()

    def check(self) -> None:
        if self.asked_to_stop.is_set():
            raise Stopped

    def count(self) -> None:
        self._unsaid += 1
        if time.monotonic() - self._said_at > _POLL_S:
            self.say()

    def say(self) -> None:
        with self.counter.get_lock():
            self.counter.value += self._unsaid
        self._unsaid, self._said_at = 0, time.monotonic()


_worker: _Worker | None = None


def _begin_worker(arguments: WriterArguments, counter: Any, asked_to_stop: Any) -> None:
    global _worker
    end_with_parent()
    _worker = _Worker(arguments, counter, asked_to_stop)


def _write_group(group: list[int]) -> None:
    assert _worker is not None
    _worker.writer.write(group, _worker.check, _worker.count)
    _worker.say()


def write_groups(
    groups: list[list[int]], workers: int, arguments: WriterArguments, stop: StopRequest, shown: Bar
) -> None:
    """Write groups of shards with several processes, or with this one.

    Args:
        groups: Numbers of shards that are read for together.
        workers: How many processes.
        arguments: Of each.
        stop: Asks to stop.
        shown: Moved on for each sample.

    Raises:
        Stopped: If asked to; finished shards stay.
        UserError: If a process was killed.
        StoreGone: If the source cannot be read.
    """
    if workers == 1:
        writer = arguments.open()
        for group in groups:
            writer.write(group, stop.check, lambda: shown.advance(1))
        return
    context = get_context("spawn")
    counter, asked_to_stop = context.Value("q", 0), context.Event()
    counted = 0
    with ProcessPoolExecutor(
        workers,
        mp_context=context,
        initializer=_begin_worker,
        initargs=(arguments, counter, asked_to_stop),
    ) as executor:
        with deaf_to_ctrl_c():  # the processes begin with the first job
            pending: set[Future[None]] = {executor.submit(_write_group, group) for group in groups}
        try:
            while pending:
                done, pending = wait(pending, timeout=_POLL_S, return_when=FIRST_COMPLETED)
                shown.advance(counter.value - counted)
                counted = counter.value
                for future in done:
                    future.result()
                stop.check()
        except BrokenProcessPool as error:
            stop.check()  # a batch system may tell all processes at once
            raise UserError(
                "a process that wrote shards was killed, perhaps because memory ran out: lower "
                "--memory-gb or --workers. The same command goes on."
            ) from error
        finally:
            asked_to_stop.set()
            executor.shutdown(cancel_futures=True)
