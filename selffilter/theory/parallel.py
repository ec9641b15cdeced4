"""Independent trials over processes, with the time left."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Row = dict[str, float | int | str]
Task = TypeVar("Task")

BLAS_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run_tasks(
    function: Callable[[Task], list[Row]], tasks: Sequence[Task], *, workers: int, label: str
) -> list[Row]:
    """Run a function over tasks and return all rows in the order of the tasks.

    Args:
        function: a module-level function of one task; must not depend on anything but the task.
        tasks: what to run; a seed is part of the task, so results do not depend on ``workers``.
        workers: processes; 1 runs in this one.
        label: text beside the progress bar.
    """
    if workers < 1:
        raise ValueError(f"workers={workers}: give at least 1 process")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    rows: list[Row] = []
    with Progress(*columns) as progress:
        bar = progress.add_task(label, total=len(tasks))
        for result in _results(function, tasks, workers):
            rows.extend(result)
            progress.advance(bar)
    return rows


def _results(
    function: Callable[[Task], list[Row]], tasks: Sequence[Task], workers: int
) -> Iterator[list[Row]]:
    if workers == 1:
        yield from map(function, tasks)
        return
    with _one_blas_thread():
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as executor:
            yield from executor.map(function, tasks)


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """Let each process started inside use one BLAS thread: the matrices are small."""
    before = {name: os.environ.get(name) for name in BLAS_THREADS}
    os.environ.update(dict.fromkeys(BLAS_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
