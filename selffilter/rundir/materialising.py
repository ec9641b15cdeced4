"""`selffilter materialize`: from what the user names to a pool and some of its rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selffilter.config import Config, PoolConfig
from selffilter.errors import UserError
from selffilter.indexing import open_pool
from selffilter.interrupt import StopRequest
from selffilter.pool.index import Pool
from selffilter.pool.materialise.report import describe
from selffilter.pool.materialise.settings import ShardSettings
from selffilter.pool.materialise.write import materialise
from selffilter.pool.multiset import Subset
from selffilter.pool.subset import read_subset_file
from selffilter.pool.uids import UidTable
from selffilter.rundir.on_disk import RunOnDisk, open_store, rounds_done
from selffilter.selecting.on_disk import Selection, read_selection
from selffilter.tracking.console import Screen


@dataclass(frozen=True)
class Chosen:
    """What is to be written.

    Attributes:
        pool: Where it lies.
        rows_N: (N,) int64, ascending.
        weights_N: (N,) int64.
        config: Of the pool.
    """

    pool: Pool
    rows_N: NDArray[np.int64]
    weights_N: NDArray[np.int64]
    config: PoolConfig


def run_materialize(
    selection: Path,
    out: Path,
    settings: ShardSettings,
    *,
    round_: int | None,
    shards: list[str],
    caption_key: str,
    index_dir: Path | None,
    allow_pipe: bool,
    workers: int,
    memory_gb: float,
) -> str:
    """Write a selection as shards of its own.

    Args:
        selection: A run directory, or a subset file.
        out: Where to.
        settings: What the shards are to look like; bounds on images are the run's.
        round_: Whose selection, if there is a run; None: the last.
        shards: The pool of a subset file, as in ``pool.shards``; none for a run, which knows its.
        caption_key: Of the pool of a subset file.
        index_dir: Of the pool of a subset file; None: where a run would have it.
        allow_pipe: Run the commands of its ``pipe:`` shards.
        workers: Processes.
        memory_gb: What all of them may hold of samples.

    Returns:
        What was done, for the user.

    Raises:
        UserError: If there is no such selection, or `out` holds something else.
        StoreGone: If the pool cannot be read.
        Stopped: If asked to.
    """
    settings.check()
    if workers < 1 or not memory_gb > 0:
        raise UserError(f"--workers {workers} --memory-gb {memory_gb:g}: both must be above 0.")
    screen = Screen()
    with StopRequest() as stop:
        if selection.is_dir():
            if shards or index_dir:
                raise UserError(
                    f"{selection} is a run, which knows its pool: leave out --shards and "
                    f"--index-dir, or give {selection}/final/subset.npy instead."
                )
            chosen = of_run(selection, round_)
        else:
            if round_ is not None:
                raise UserError(f"--round {round_}: {selection} is no run directory.")
            config = PoolConfig(
                shards=shards,
                caption_key=caption_key,
                index_dir=None if index_dir is None else str(index_dir),
                allow_pipe=allow_pipe,
            )
            chosen = of_subset(selection, config, screen, stop)
        bounds = {
            "max_image_pixels": chosen.config.max_image_pixels,
            "max_image_bytes": chosen.config.max_image_bytes,
        }
        report = materialise(
            chosen.pool,
            chosen.rows_N,
            chosen.weights_N,
            out,
            ShardSettings(**(vars(settings) | bounds)),
            workers=workers,
            memory_bytes=int(memory_gb * 1e9),
            request_bytes=chosen.config.request_bytes,
            stop=stop,
            say=screen.say,
            bar=lambda total, done: screen.bar("materialize", total, done),
        )
    return describe(report, out)


def of_run(run_dir: Path, round_: int | None) -> Chosen:
    """Find what a round of a run has selected.

    Raises:
        UserError: If there is no such round, or the pool is not what it was.
    """
    found, run = selection_of_run(run_dir, round_), RunOnDisk.open(run_dir)
    run.pool.check_shards(run.config.pool.allow_pipe)
    return Chosen(run.pool, found.rows_N, found.weights_N, run.config.pool)


def selection_of_run(run_dir: Path, round_: int | None) -> Selection:
    """Read what a round of a run has selected; the last that has if `round_` is None.

    Raises:
        UserError: If there is none.
    """
    store = open_store(run_dir)
    done = rounds_done(store, "select")
    if round_ is None and done:
        round_ = done[-1]
    if round_ not in done:
        has = f"rounds {', '.join(map(str, done))} have" if done else "none has"
        raise UserError(
            f"{run_dir}: round {0 if round_ is None else round_} has no selection; {has}."
        )
    return read_selection(store.stage(round_, "select"))


def of_subset(path: Path, config: PoolConfig, screen: Screen, stop: StopRequest) -> Chosen:
    """Find the rows of a pool whose uids stand in a subset file; index the pool where needed.

    Raises:
        UserError: If there is no such file, or none of it is in the pool.
    """
    subset = read_subset_file(path)
    if not config.shards:
        raise UserError(f"{path} holds uids: say with --shards where the pool is.")
    pinned = open_pool(Config(pool=config), screen, stop)
    pool = Pool(Path(pinned["index_dir"]), pinned["version"], config.caption_key)
    rows, weights = rows_of(pool, subset)
    if not len(rows):
        raise UserError(f"{path}: none of its uids is in the pool, or usable there.")
    if len(rows) < len(subset):
        screen.say(f"{path}: {len(rows):,} of its {len(subset):,} uids are in the pool, and usable")
    return Chosen(pool, rows, weights, config)


def rows_of(pool: Pool, subset: Subset) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the usable rows whose uids are in a subset, ascending, and their weights."""
    table = UidTable(subset.uids_N2)
    rows, weights = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for shard in range(pool.shards):
        place_n = table.places(pool.shard_uids(shard))
        place_n[pool.defects(shard)[0] - pool.first_row[shard]] = -1
        here = np.flatnonzero(place_n >= 0)
        rows.append(pool.first_row[shard] + here)
        weights.append(subset.weights_N[place_n[here]])
    return np.concatenate(rows), np.concatenate(weights)
