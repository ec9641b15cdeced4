"""From what a person names, uids, rows or keys, to rows of a pool."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from string import hexdigits

import numpy as np

from selffilter.errors import UserError
from selffilter.plain_text import harmless
from selffilter.pool import uids
from selffilter.pool.index import Pool
from selffilter.pool.lookup import key_of, rows_of_key, rows_of_uids
from selffilter.progress import Bar

ShowBar = Callable[[str, int], AbstractContextManager[Bar]]
_MOST_LISTED = 8


@dataclass
class Found:
    """Rows that somebody asks about.

    Attributes:
        rows: Each once, in the order named, with the other rows of its uid.
        unknown: A sentence for each name that nothing in the pool has.
    """

    rows: dict[int, list[int]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def find(
    pool: Pool,
    uids_asked: Sequence[str],
    rows_asked: Sequence[int],
    keys_asked: Sequence[str],
    bar: ShowBar,
) -> Found:
    """Find the rows that somebody names.

    Args:
        pool: Where they are looked for.
        uids_asked: 32 hex digits each. Of several rows with one uid it is the first.
        rows_asked: Numbers of rows.
        keys_asked: See `rows_of_key`.
        bar: Shows progress over so many shards.

    Raises:
        UserError: If a uid is none, or several samples have a key.
    """
    found = Found()
    asked = [_checked(text) for text in uids_asked]
    rows = _by_row(pool, rows_asked, found)
    for key in keys_asked:
        rows += _by_key(pool, key, bar, found)
    of_rows = uids.to_hex(pool.uids_of(np.array(rows, dtype=np.int64)))
    rows_of = _rows_of(pool, [*asked, *of_rows], bar)
    for uid in dict.fromkeys(asked):
        if rows_of[uid]:
            first, *others = rows_of[uid]
            found.rows[first] = others
        else:
            found.unknown.append(f"no sample of this run's pool has the uid {uid}.")
    for row, uid in zip(rows, of_rows, strict=True):
        found.rows[row] = [other for other in rows_of[uid] if other != row]
    return found


def _checked(text: str) -> str:
    if len(text) != 32 or not set(text) <= set(hexdigits):
        raise UserError(
            f"{harmless(text)!r} is no uid, which has 32 hex digits; a sample's key in its tar is "
            "asked about with --key, its row with --row."
        )
    return text.lower()


def _rows_of(pool: Pool, texts: Sequence[str], bar: ShowBar) -> dict[str, list[int]]:
    """Return the rows of each uid, ascending, in one go over the pool."""
    once = list(dict.fromkeys(texts))
    if not once:
        return {}
    with bar("look for uids", pool.shards) as shown:
        found = rows_of_uids(pool, uids.from_hex(once), lambda: shown.advance(1))
    return {uid: rows.tolist() for uid, rows in zip(once, found, strict=True)}


def _by_row(pool: Pool, rows: Sequence[int], found: Found) -> list[int]:
    found.unknown += [
        f"there is no row {row}: this run's pool has the rows 0 to {pool.rows - 1:,}."
        for row in rows
        if not 0 <= row < pool.rows
    ]
    return [row for row in rows if 0 <= row < pool.rows]


def _by_key(pool: Pool, key: str, bar: ShowBar, found: Found) -> list[int]:
    with bar("look for keys", pool.shards) as shown:
        rows = rows_of_key(pool, key, lambda: shown.advance(1)).tolist()
    if len(rows) > 1:
        places = []
        for row in rows[:_MOST_LISTED]:
            shard, name = key_of(pool, row)
            places.append(f"{pool.shard_name(shard)}/{name}")
        more = f" and {len(rows) - _MOST_LISTED:,} more" * (len(rows) > _MOST_LISTED)
        raise UserError(
            f"--key {harmless(key)}: {len(rows):,} samples are called that: "
            f"{harmless(', '.join(places))}{more}. Name one of them by --key SHARD/KEY."
        )
    if not rows:
        found.unknown.append(f"no sample of this run's pool has the key {harmless(key)}.")
    return rows
