"""A run whose shards, or whose index, lie elsewhere now: it goes on with the same rows.

The run is pinned to a version of the index; that of the new places takes its place, and
environment.json says so under ``moved``.
"""

from __future__ import annotations

import dataclasses
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from selffilter.config import Config, read_run_config, to_yaml
from selffilter.errors import UserError
from selffilter.interrupt import StopRequest
from selffilter.pool.index import Pool
from selffilter.pool.index_files import version_file
from selffilter.pool.moving import move_shards
from selffilter.rundir.on_disk import RunOnDisk
from selffilter.store import Lease, RunStore, read_object, write_json, write_text
from selffilter.tracking.console import Screen

RECORD = "environment.json"


def follow(
    store: RunStore, config: Config, screen: Screen, stop: StopRequest, *, anyhow: bool = False
) -> dict[str, str]:
    """Pin a run to where its pool lies now, if that is elsewhere; every row keeps its number.

    Args:
        store: The run; the lease on it is held.
        config: Says where shards and index lie (``pool.shards``, ``pool.index_dir``).
        screen: Shows progress.
        stop: Asks to stop; what was compared is not compared again.
        anyhow: Look at the shards even if the config has the same places as before: they may have
            been copied over each other.

    Returns:
        ``index_dir`` and ``version`` of the pool's index.

    Raises:
        UserError: Naming what is missing, or another shard, in the new place. Nothing is changed.
        StoreGone: If a server does not answer.
        Stopped: When asked to.
    """
    before = read_run_config(store.config_path)
    record = read_object(store.root / RECORD)
    pinned: dict[str, str] = dict(record["pool"])
    pinned["index_dir"] = str(_index_dir(pinned, config, screen))
    if config.pool.shards != before.pool.shards or anyhow:
        pool = Pool(Path(pinned["index_dir"]), pinned["version"], config.pool.caption_key)
        moved = move_shards(
            pool,
            config.pool.shards,
            allow_pipe=config.pool.allow_pipe,
            workers=min(config.hardware.workers, os.cpu_count() or 1),
            bar=lambda shards: screen.bar("compare moved shards", shards),
            should_go_on=stop.check,
        )
        pinned["version"] = moved.version
        if moved.shards:
            screen.say(
                f"{moved.shards:,} of {pool.shards:,} shards lie elsewhere now, and are the same: "
                "sizes, the headers of every sample, "
                + _words(moved.shards, moved.without_digest)
                + (f"; {moved.others:,} others there are left alone" if moved.others else "")
            )
            record.setdefault("moved", []).append(
                {
                    "at": now(),
                    "from": before.pool.shards,
                    "to": config.pool.shards,
                    "version_before": pool.version,
                    "version": moved.version,
                    "shards": moved.shards,
                    "without_digest": moved.without_digest,
                }
            )
    if pinned != record["pool"]:
        write_json(store.root / RECORD, record | {"pool": pinned})
    if config.pool.shards != before.pool.shards:
        pool_config = dataclasses.replace(before.pool, shards=config.pool.shards)
        write_text(store.config_path, to_yaml(dataclasses.replace(before, pool=pool_config)))
    return pinned


def move_run(
    run_dir: Path,
    shards: list[str],
    workers: int,
    allow_pipe: bool,
    screen: Screen,
    stop: StopRequest,
) -> str:
    """Let a run that nobody works on follow its shards; see `follow`.

    Args:
        run_dir: The run.
        shards: Where they lie now; looked at even if that is where they were.
        workers: Processes to scan with.
        allow_pipe: Whether ``pipe:`` shards may run their commands.
        screen: Shows progress.
        stop: Asks to stop.

    Returns:
        The version of the index that the run is pinned to now.
    """
    run = RunOnDisk.open(run_dir)
    config = dataclasses.replace(
        run.config,
        pool=dataclasses.replace(
            run.config.pool, shards=shards, allow_pipe=run.config.pool.allow_pipe or allow_pipe
        ),
        hardware=dataclasses.replace(run.config.hardware, workers=workers),
    )
    with Lease(run.store.root, screen.say, stop.ask):
        return follow(run.store, config, screen, stop, anyhow=True)["version"]


def now() -> str:
    """Return the time, UTC, to the second, as ISO 8601 has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def note_continued(
    store: RunStore, ranks: int, changed: dict[str, Any], fields: dict[str, tuple[Any, Any]]
) -> None:
    """Note in environment.json that a run goes on, and with what else than it was begun with.

    Args:
        store: The run.
        ranks: On so many.
        changed: Versions and the like, before and now; see `environment.differences`.
        fields: Of the config, likewise.
    """
    record = read_object(store.root / RECORD)
    entry = {"at": now(), "ranks": ranks, "versions": changed, "config": fields}
    record.setdefault("continued", []).append(entry)
    write_json(store.root / RECORD, record)


def _index_dir(pinned: dict[str, str], config: Config, screen: Screen) -> Path:
    """Return where the version lies: as before, or where the config says that indexes are now."""
    before, version = Path(pinned["index_dir"]), pinned["version"]
    said = config.pool.index_dir
    if said is not None and version_file(Path(said).resolve(), version).exists():
        if Path(said).resolve() != before:
            screen.say(f"the pool's index lies in {said} now")
        return Path(said).resolve()
    if not version_file(before, version).exists():
        looked = f", nor in pool.index_dir={said}" if said is not None else ""
        raise UserError(
            f"the pool's index that this run was begun with is not in {before}{looked} (version "
            f"{version}). Put it back, or say where it is: pool.index_dir=FOLDER."
        )
    return before


def _words(shards: int, without: int) -> str:
    if not without:
        return "and the bytes of some"
    some = "the shards" if without == shards else f"{without:,} of them"
    return f"(bytes not compared: an older selffilter indexed {some})"
