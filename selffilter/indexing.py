"""Indexing the pool of a config."""

from __future__ import annotations

import os
from pathlib import Path

from selffilter.config import Config
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
