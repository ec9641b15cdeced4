"""Doing things side by side that leave Python's lock alone: Parquet, numpy's loops, waiting."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

THREADS = min(8, os.cpu_count() or 1)

Job = TypeVar("Job")
Result = TypeVar("Result")


def several(work: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
    """Do jobs on some threads, and yield their results in the order of the jobs."""
    with ThreadPoolExecutor(THREADS) as threads:
        try:
            yield from threads.map(work, jobs)
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def ahead(things: Iterable[Result]) -> Iterator[Result]:
    """Yield things in their order, the next one being made on a thread meanwhile."""
    making, end = iter(things), object()
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, making, end)
        while (thing := coming.result()) is not end:
            coming = thread.submit(next, making, end)
            yield thing  # type: ignore[misc]  # it is not the end
