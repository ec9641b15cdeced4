"""From what a person calls a sample, a uid or a key, to its row; and from a row to its captions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from selffilter.pool.captions import CaptionKey
from selffilter.pool.failures import UnusableSample
from selffilter.pool.index import Pool
from selffilter.pool.row_reader import RowReader, captions_in, members_read, size_limits
from selffilter.pool.uids import UidTable

Rows = NDArray[np.int64]


def rows_of_uids(
    pool: Pool, uids_K2: NDArray[np.uint64], on_each: Callable[[], None] = lambda: None
) -> list[Rows]:
    """Find every row that has one of some uids.

    Args:
        pool: The pool; all of its uids are looked at, a shard at a time.
        uids_K2: (K, 2) uint64, each once.
        on_each: Called after each shard.

    Returns:
        For each uid its rows, ascending int64: none if it is not in the pool, several if it stands
        there several times.
    """
    table = UidTable(uids_K2)
    found: list[list[int]] = [[] for _ in range(len(uids_K2))]
    first_halves = np.unique(uids_K2[:, 0])
    for shard in range(pool.shards):
        uids_n2 = pool.shard_uids(shard)
        # Few are asked for: one column settles almost every row.
        near = np.flatnonzero(np.isin(uids_n2[:, 0], first_halves))
        for place, local in zip(table.places(uids_n2[near]).tolist(), near.tolist(), strict=True):
            if place >= 0:
                found[place].append(int(pool.first_row[shard]) + local)
        on_each()
    return [np.array(rows, dtype=np.int64) for rows in found]


def rows_of_key(pool: Pool, name: str, on_each: Callable[[], None] = lambda: None) -> Rows:
    """Find the rows whose key in their tar is `name`, or whose shard and key it names.

    Args:
        pool: The pool.
        name: KEY; or SHARD/KEY, the shard called ``source/relative``, by its path below the source
            or by its file's name, with or without ``.tar``.
        on_each: Called after each shard.

    Returns:
        Rows, ascending; keys need not be unique.
    """
    found = []
    for shard in range(pool.shards):
        asked = {name} | {
            name.removeprefix(called)
            for called in _names(pool, shard)
            if name.startswith(called) and name != called
        }
        keys = pool.shard_table(shard)["key"].combine_chunks()
        local = np.flatnonzero(pc.is_in(keys, pa.array(sorted(asked))).to_numpy(False))
        found.append(pool.first_row[shard] + local)
        on_each()
    return np.concatenate([np.empty(0, np.int64), *found])


def _names(pool: Pool, shard: int) -> set[str]:
    """Return what a shard may be called, each with a slash behind it."""
    path = pool.shard_path(shard)
    whole = {f"{path.source}/{path.relative}", path.relative, path.relative.rpartition("/")[2]}
    return {f"{called}/" for name in whole for called in (name, name.removesuffix(".tar"))}


def key_of(pool: Pool, row: int) -> tuple[int, str]:
    """Return the shard of a row, and its key there."""
    shard = int(pool.shard_of(np.array([row]))[0])
    return shard, pool.shard_table(shard)["key"][row - int(pool.first_row[shard])].as_py()


def captions_of(pool: Pool, row: int) -> list[str]:
    """Read the captions of a row.

    Raises:
        UnusableSample: If it has none that can be read.
        StoreGone: If its shard cannot be read.
    """
    key, reader = CaptionKey.parse(pool.caption_key), RowReader(pool, limits=size_limits(None))
    try:
        texts = reader.read(np.array([row], dtype=np.int64), members_read(key)[1:])[0]
        return captions_in(key, texts)
    except UnusableSample as verdict:
        raise UnusableSample(reader.failure(row, verdict.failure)) from verdict
