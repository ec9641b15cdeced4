"""What tells a shard from all others, and from what it was before a change."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from selffilter.patience import LASTING
from selffilter.pool.index_files import LAYOUT
from selffilter.pool.sources import ShardPath
from selffilter.pool.stores.file_systems import file_system
from selffilter.pool.stores.find import Stores, is_remote
from selffilter.pool.stores.store import Stat

_AT_ONCE = 32


def fingerprint(shard: ShardPath, stat: Stat, caption_key: str) -> str:
    """Return 24 hex digits: the same as long as the shard, and how it is indexed, is the same.

    A command (``pipe:``) tells neither size nor tag of what it will write: a change there shows in
    reading alone.
    """
    parts = (LAYOUT, shard.source, shard.relative, stat.size, stat.tag, caption_key)
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:24]


def stat_all(
    locations: Sequence[str], on_each: Callable[[], None] = lambda: None, fresh: bool = True
) -> list[Stat | OSError]:
    """Ask for size and tag of many shards, several at a time: each may be a way to a server.

    Args:
        locations: Where they lie.
        on_each: Called after each; may raise to stop.
        fresh: Ask the servers; otherwise what they said when folders were listed will do.

    Returns:
        For each its `Stat`, or why there is none. A server that did not answer about one shard,
        with all patience, is not asked about those that are left: with many, that would take
        hours.
    """
    stores = Stores()
    if fresh:
        systems = {id(files): files for files in map(file_system, filter(is_remote, locations))}
        for files in systems.values():
            files.invalidate_cache()

    silent: dict[str, OSError] = {}

    def ask(location: str) -> Stat | OSError:
        server = _server(location)
        if server in silent:
            return OSError(f"not asked, for the server does not answer: {silent[server]}")
        try:
            return stores.of(location).stat(location)
        except OSError as error:
            if server and not isinstance(error, LASTING):
                silent.setdefault(server, error)
            return error

    found: list[Stat | OSError] = []
    with ThreadPoolExecutor(min(_AT_ONCE, max(1, len(locations)))) as threads:
        try:
            for stat in threads.map(ask, locations):
                found.append(stat)
                on_each()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    return found


def _server(location: str) -> str:
    """Return the server of a URL, "" of what is near."""
    return "/".join(location.split("/", 3)[:3]) if is_remote(location) else ""
