"""Which rows of a version the index itself knows to be unusable. Memory does not grow with rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from selffilter.pool import uids
from selffilter.pool.captions import CaptionKey
from selffilter.pool.failures import Failure
from selffilter.pool.index_files import DEFECT_SCHEMA, read_arrow
from selffilter.randomness import hash_rows

ROWS_AT_ONCE = 1 << 25
"""So many 64-bit digests are sorted at a time."""

_ODD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Defects:
    """What was found.

    Attributes:
        table: `DEFECT_SCHEMA`, rows ascending.
        without_image: Rows without an image member.
        without_caption: Rows without a member that captions could stand in.
    """

    table: pa.Table
    without_image: int
    without_caption: int


def find_defects(files: list[Path], rows: int, caption_key: str) -> Defects:
    """Find rows without image or caption, and all but the first of rows that share a uid.

    Args:
        files: The rows of each shard, in order.
        rows: How many there are in all.
        caption_key: See `CaptionKey`.
    """
    key = CaptionKey.parse(caption_key)
    found_rows: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    found_failures: list[NDArray[np.uint8]] = [np.empty(0, np.uint8)]
    first = without_image = without_caption = 0
    for path in files:
        table = read_arrow(path)
        no_image = table["image_offset"].to_numpy() < 0
        no_caption = table["caption_offset"].to_numpy() < 0
        if key.uses_json:
            no_caption &= table["json_offset"].to_numpy() < 0
        without_image += int(no_image.sum())
        without_caption += int(no_caption.sum())
        place = np.flatnonzero(no_image | no_caption)
        reason = np.where(no_image[place], Failure.missing_image, Failure.missing_caption)
        found_rows.append(first + place)
        found_failures.append(reason.astype(np.uint8))
        first += table.num_rows
    row_D, failure_D = np.concatenate(found_rows), np.concatenate(found_failures)

    def uids_of_shards() -> Iterator[NDArray[np.uint64]]:
        return (uids.from_arrow(read_arrow(path)["uid"]) for path in files)

    twice = np.setdiff1d(find_duplicates(uids_of_shards, rows), row_D, assume_unique=True)
    row_D = np.concatenate([row_D, twice])
    failure_D = np.concatenate([failure_D, np.full(len(twice), Failure.duplicate_uid, np.uint8)])
    order = np.argsort(row_D, kind="stable")
    table = pa.Table.from_arrays(
        [pa.array(row_D[order]), pa.array(failure_D[order])], schema=DEFECT_SCHEMA
    )
    return Defects(table, without_image, without_caption)


def find_duplicates(
    uids_of_shards: Callable[[], Iterator[NDArray[np.uint64]]],
    rows: int,
    rows_at_once: int = ROWS_AT_ONCE,
) -> NDArray[np.int64]:
    """Find all but the first of rows that share a uid.

    The space of a 64-bit digest is gone through in ranges of about `rows_at_once` rows: first
    digests alone are sorted to see which occur twice (hardly any by chance), then the uids behind
    those are looked at.

    Args:
        uids_of_shards: Gives the uids of each shard in turn, (n, 2) uint64, as often as it is
            called.
        rows: How many there are in all.
        rows_at_once: Bounds the memory: about 16 bytes times this, more where rows repeat.

    Returns:
        Row numbers, ascending.
    """
    parts = max(1, -(-rows // rows_at_once))
    bounds = [part * (1 << 64) // parts for part in range(parts + 1)]
    found: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    for low, high in pairwise(bounds):
        digests = [_in_range(uid_n2, low, high)[1] for uid_n2 in uids_of_shards()]
        several_M = _several(np.concatenate(digests)) if digests else np.empty(0, np.uint64)
        del digests
        if len(several_M):
            found.append(_later_ones(uids_of_shards(), several_M, low, high))
    return np.sort(np.concatenate(found))


def _digest(uid_n2: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        both = uid_n2[:, 0] * _ODD + uid_n2[:, 1]
    return hash_rows(both.view(np.int64), "uid")


def _in_range(
    uid_n2: NDArray[np.uint64], low: int, high: int
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Return the places whose digest is in a range, and the digests there."""
    digest_n = _digest(uid_n2)
    inside = (digest_n >= np.uint64(low)) & (digest_n <= np.uint64(high - 1))
    return np.flatnonzero(inside), digest_n[inside]


def _several(digests: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the values that occur more than once, ascending."""
    digests.sort()
    return np.unique(digests[1:][digests[1:] == digests[:-1]])


def _later_ones(
    shards: Iterator[NDArray[np.uint64]], several_M: NDArray[np.uint64], low: int, high: int
) -> NDArray[np.int64]:
    first = 0
    rows: list[NDArray[np.int64]] = []
    values: list[NDArray[np.uint64]] = []
    for uid_n2 in shards:
        place, digest = _in_range(uid_n2, low, high)
        nearest = np.minimum(np.searchsorted(several_M, digest), len(several_M) - 1)
        place = place[several_M[nearest] == digest]
        rows.append(first + place)
        values.append(uid_n2[place])
        first += len(uid_n2)
    row_K, uid_K2 = np.concatenate(rows), np.concatenate(values)
    # Stable: of equal uids the lowest row stays.
    order = np.lexsort((uid_K2[:, 1], uid_K2[:, 0]))
    again = (uid_K2[order[1:]] == uid_K2[order[:-1]]).all(axis=1)
    return row_K[order[1:][again]]
