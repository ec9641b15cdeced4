"""Indexing the pool of a config, or of what a command names."""

from __future__ import annotations

import os
from pathlib import Path

from selffilter.config import Config, PoolConfig
from selffilter.errors import UserError
from selffilter.interrupt import StopRequest
from selffilter.pool.index import Pool, build_index, default_index_dir
from selffilter.tracking.console import Screen


def index_shards(
    specs: list[str],
    index_dir: Path,
    *,
    caption_key: str,
    allow_pipe: bool,
    workers: int,
    screen: Screen,
    stop: StopRequest,
) -> Pool:
    """Index shards as far as they are not, with a bar; see `build_index`."""
    version = build_index(
        specs,
        index_dir,
        caption_key=caption_key,
        allow_pipe=allow_pipe,
        workers=workers,
        bar=lambda shards: screen.bar("index shards", shards),
        should_go_on=stop.check,
        say=screen.say,
    )
    return Pool(index_dir, version)


def is_index(shards: list[str]) -> bool:
    """Whether what a command names is the folder of an index and not shards."""
    return len(shards) == 1 and (Path(shards[0]) / "versions" / "latest").is_file()


def index_dir_of(shards: list[str], index_dir: Path | None) -> Path:
    """Return where the index of shards lies; of an index its own folder.

    Raises:
        UserError: If an index is named, and another place for it.
    """
    if is_index(shards):
        if index_dir is not None:
            raise UserError(f"{shards[0]} is an index itself: leave out --index-dir {index_dir}.")
        return Path(shards[0])
    return (index_dir or default_index_dir(shards, Path(Config().runs_dir))).resolve()


def index_named(
    shards: list[str],
    index_dir: Path | None,
    *,
    caption_key: str | None,
    allow_pipe: bool,
    workers: int,
    screen: Screen,
    stop: StopRequest,
) -> tuple[Path, Pool]:
    """Index shards that a command names as far as they are not; arguments as of `open_named`."""
    where = index_dir_of(shards, index_dir)
    pool = index_shards(
        shards,
        where,
        caption_key=PoolConfig.caption_key if caption_key is None else caption_key,
        allow_pipe=allow_pipe,
        workers=workers,
        screen=screen,
        stop=stop,
    )
    return where, pool


def open_named(
    shards: list[str],
    index_dir: Path | None,
    *,
    caption_key: str | None,
    allow_pipe: bool,
    workers: int,
    screen: Screen,
    stop: StopRequest,
) -> tuple[Path, Pool]:
    """Open an index that was named itself; else index the shards as far as they are not.

    Args:
        shards: As in ``pool.shards``; or the folder of an index.
        index_dir: Where the index of shards lies; None: where a run in runs/ has it.
        caption_key: Where captions stand; None: as an index says, or the default.
        allow_pipe: Whether ``pipe:`` shards may run their commands.
        workers: Processes to scan with.
        screen: Shows progress.
        stop: Asks to stop.

    Returns:
        Where the index lies, and the pool.
    """
    if is_index(shards):
        where = index_dir_of(shards, index_dir)
        pool = Pool.latest(where, caption_key)
        pool.refuse_pipes(allow_pipe)
        return where, pool
    return index_named(
        shards,
        index_dir,
        caption_key=caption_key,
        allow_pipe=allow_pipe,
        workers=workers,
        screen=screen,
        stop=stop,
    )


def open_pool(config: Config, screen: Screen, stop: StopRequest) -> dict[str, str]:
    """Index the pool of a config as far as it is not; return ``index_dir`` and ``version``."""
    specs, runs_dir = config.pool.shards, Path(config.runs_dir)
    index_dir = Path(config.pool.index_dir or default_index_dir(specs, runs_dir)).resolve()
    pool = index_shards(
        specs,
        index_dir,
        caption_key=config.pool.caption_key,
        allow_pipe=config.pool.allow_pipe,
        workers=min(config.hardware.workers, os.cpu_count() or 1),
        screen=screen,
        stop=stop,
    )
    for problem in pool.problems():
        screen.say(f"broken tar: {problem}")
    if counts := pool.defect_counts():
        listed = ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
        screen.say(f"{pool.rows:,} rows indexed; left out: {listed}")
    return {"index_dir": str(index_dir), "version": pool.version}
