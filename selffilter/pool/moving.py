"""A version of the index for the same shards in another place: every row keeps its number.

What a copy changes (place, time of modification, ETag) is no part of a sample. What has to be the
same of each shard is its path below its source, its size, its headers (key, uid, place and size of
every sample's members) and the bytes of some members (`tar_scan`), as the index has them: the old
place may be gone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from selffilter.errors import StoreGone, UserError
from selffilter.patience import LASTING
from selffilter.pool import index_files
from selffilter.pool.fingerprints import fingerprint, stat_all
from selffilter.pool.index import Pool, ShowBar, scan_missing, write_version
from selffilter.pool.index_files import read_arrow, rows_file
from selffilter.pool.sources import ShardPath, list_shards, source_name, split_name
from selffilter.pool.stores.store import Stat
from selffilter.progress import NoBar
from selffilter.store import link


@dataclass(frozen=True)
class Moved:
    """What became of a version.

    Attributes:
        version: Name of the version with the new places; the old one's if nothing has moved.
        shards: How many shards lie elsewhere, or were copied anew, and were compared.
        without_digest: How many of them the index holds no digest of (it is an older selffilter's):
            of these, headers and sizes alone were compared.
        others: Shards in the new place that the version does not have; they are left alone.
    """

    version: str
    shards: int
    without_digest: int
    others: int


def move_shards(
    pool: Pool,
    specs: list[str],
    *,
    allow_pipe: bool = False,
    workers: int = 1,
    bar: ShowBar = lambda _: nullcontext(NoBar()),
    should_go_on: Callable[[], None] = lambda: None,
) -> Moved:
    """Write the version that has the shards of `pool` where they lie now.

    Restartable: a shard that was scanned is not scanned again.

    Args:
        pool: The version whose rows stay what they are.
        specs: The new places of its sources, see `sources.list_shards`; matched by their names, or,
            where these are others, in their order.
        allow_pipe: Whether ``pipe:`` shards may run their commands.
        workers: Processes to scan with.
        bar: Shows progress over so many shards.
        should_go_on: Called after each shard; may raise to stop.

    Raises:
        UserError: Naming the first shard that is missing there or is another one.
        StoreGone: If a server does not answer, also after some patience.
    """
    listed = {(s.source, s.relative): s for s in list_shards(_named(pool, specs), allow_pipe)}
    old = [pool.shard_path(shard) for shard in range(pool.shards)]
    missing = [s for s in old if (s.source, s.relative) not in listed]
    if missing:
        raise UserError(
            f"pool.shards={specs}: {missing[0].source}/{missing[0].relative}"
            f"{_and_more(missing)} of the {pool.shards:,} shards of the run {_is(missing)} not "
            f"there ({'it was' if len(missing) == 1 else 'the first was'} at "
            f"{missing[0].location}). A run goes on with all of its shards, under the same names."
        )
    new = [listed[s.source, s.relative] for s in old]
    stats = _stats(pool, new, should_go_on)
    prints = [
        fingerprint(shard, stat, pool.caption_key) for shard, stat in zip(new, stats, strict=True)
    ]
    moved = [
        shard
        for shard in range(pool.shards)
        if new[shard].location != old[shard].location or prints[shard] != pool.fingerprint(shard)
    ]
    others = len(listed) - len(old)
    if not moved:
        return Moved(pool.version, 0, 0, others)

    index_dir = pool.index_dir
    aside = index_dir / "moving" / pool.version
    scan_missing(
        {prints[shard]: new[shard] for shard in moved},
        aside,
        pool.caption_key,
        workers=workers,
        bar=bar,
        should_go_on=should_go_on,
    )
    without_digest = 0
    for shard in moved:
        without_digest += not _compare(pool, shard, new[shard], rows_file(aside, prints[shard]))
    for shard in moved:
        link(rows_file(aside, prints[shard]), rows_file(index_dir, prints[shard]))
    version = write_version(
        list(zip(prints, new, stats, strict=True)),
        index_dir,
        pool.caption_key,
        specs,
        rows_version=pool.rows_version,
    )
    shutil.rmtree(aside, ignore_errors=True)
    return Moved(version, len(moved), without_digest, others)


def _named(pool: Pool, specs: list[str]) -> list[str]:
    """Return the specs under the sources' old names, of which uids are made."""
    names = [source_name(spec) for spec in specs]
    if len(specs) != len(pool.sources):
        raise UserError(
            f"pool.shards={specs}: the run's pool has {len(pool.sources)} sources, "
            f"{', '.join(pool.sources)}; say where each of them lies now."
        )
    if set(names) != set(pool.sources):
        names = pool.sources
    return [f"{name}={split_name(spec)[1]}" for name, spec in zip(names, specs, strict=True)]


def _stats(pool: Pool, shards: list[ShardPath], should_go_on: Callable[[], None]) -> list[Stat]:
    """Ask for sizes first: that takes a moment, and tells most of what could be wrong."""
    stats: list[Stat] = []
    found = stat_all([s.location for s in shards], should_go_on, fresh=False)
    for number, (shard, stat) in enumerate(zip(shards, found, strict=True)):
        if isinstance(stat, LASTING):
            raise UserError(f"pool.shards: {shard.location} cannot be read: {stat}.") from stat
        if isinstance(stat, OSError):
            raise StoreGone(f"shard {shard.location} cannot be looked at: {stat}") from stat
        if stat.size is not None and stat.size != pool.shard_bytes(number):
            _refuse_other(
                pool, number, shard,
                f"it has {stat.size:,} bytes and not {pool.shard_bytes(number):,}",
            )  # fmt: skip
        stats.append(stat)
    return stats


def _compare(pool: Pool, shard: int, path: ShardPath, scanned: Path) -> bool:
    """Hold what was scanned in the new place against the index; returns whether it had a digest."""
    was, now = pool.shard_table(shard), read_arrow(scanned)
    if was.num_rows != now.num_rows:
        _refuse_other(
            pool, shard, path, f"it has {now.num_rows:,} samples and not {was.num_rows:,}"
        )
    for name in was.schema.names:
        if was[name].equals(now[name]):
            continue
        place = pc.index(pc.equal(was[name], now[name]), False).as_py()
        _refuse_other(
            pool, shard, path, f"{was['key'][place]!s}, its sample {place}, has another {name}"
        )
    digests = [index_files.metadata(table, "digest") for table in (was, now)]
    if digests[0] and digests[0] != digests[1]:
        _refuse_other(pool, shard, path, "samples of its bytes are others")
    return bool(digests[0])


def _refuse_other(pool: Pool, shard: int, path: ShardPath, why: str) -> None:
    raise UserError(
        f"pool.shards: {path.location} is not the shard {pool.shard_name(shard)} that was indexed "
        f"at {pool.location(shard)}: {why}. Nothing has been changed: put the same shards "
        "there, or begin a new run (name=…)."
    )


def _and_more(found: list[ShardPath]) -> str:
    return f" and {len(found) - 1:,} more" if len(found) > 1 else ""


def _is(found: list[ShardPath]) -> str:
    return "are" if len(found) > 1 else "is"
