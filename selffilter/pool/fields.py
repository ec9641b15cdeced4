"""Groups of a pool's rows: by a field of their jsons, or by the source they come from.

Groups are codes, one a row, and the names behind them. Codes count from 0, -1 is "no value".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext

import numpy as np
from numpy.typing import NDArray

from selffilter.errors import UserError
from selffilter.pool.field import Field
from selffilter.pool.field_shards import FieldShards
from selffilter.pool.index import Pool, ShowBar
from selffilter.pool.row_reader import REQUEST_BYTES
from selffilter.progress import NoBar

MAX_VALUES = 10_000
"""So many values have a group of their own."""
OTHER = "(other)"
"""The group of all others."""

_CANDIDATES = 1 << 18
_ROWS_AT_ONCE = 1 << 22
_NONE = -1


def source_codes(pool: Pool) -> tuple[NDArray[np.int32], list[str]]:
    """Return the source of each row: codes (N,) int32, and the names of the sources."""
    source_S = [pool.source_of(shard) for shard in range(pool.shards)]
    codes_N = np.repeat(np.array(source_S, np.int32), np.diff(pool.first_row))
    return codes_N, list(pool.sources)


def field_values(
    pool: Pool,
    field: str,
    *,
    max_values: int = MAX_VALUES,
    asked_as: str = "field",
    should_go_on: Callable[[], None] = lambda: None,
    bar: ShowBar = lambda _: nullcontext(NoBar()),
    say: Callable[[str], None] = lambda _: None,
    request_bytes: int = REQUEST_BYTES,
) -> tuple[NDArray[np.int32], list[str]]:
    """Group the rows of a pool by a field of their jsons.

    Where img2dataset's ``NNNNN.parquet`` stands beside a shard and has a column of that name, and
    a ``key`` for every sample of the shard, that is read, else the jsons are. What was read is
    kept below the index; stopped, the same call goes on.

    Args:
        pool: The pool.
        field: ``NAME``, ``NAME.NAME`` or ``domain(…)``; see `Field`.
        max_values: The values of most rows have a group each, ties by their text; if there are more
            than this, the others are one group, `OTHER`. Exactly the most frequent ones as long
            as the pool has up to 262,144 different values; of more, one that less than one row in
            262,144 has may be passed over.
        asked_as: What the user calls the field, for errors.
        should_go_on: Called now and then; may raise to stop.
        bar: Shows progress over so many rows.
        say: Told of rows without a value, and of a first shard without any.
        request_bytes: See `RowReader`.

    Returns:
        Codes (N,) int32, -1 where a row has no value; and the names: values, the most frequent
        first, and last `OTHER` if there is such a row. 4 bytes a row are held.

    Raises:
        UserError: If that is no field, or no row has it.
        StoreGone: If a shard cannot be read.
    """
    shards = FieldShards(pool, Field.parse(field, asked_as), should_go_on, request_bytes)
    _make(pool, shards, field, should_go_on, bar, say)
    kept, without = _frequent(pool, shards, should_go_on)
    if not kept:
        raise UserError(
            f"{asked_as}={field!r}: not a single row of the pool has it. {_what_there_is(shards)}"
        )
    if lacking := without.total():
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(without.items()))
        say(f"{field}: {lacking:,} of {pool.rows:,} rows have no value ({reasons})")
    return _coded(pool, shards, sorted(kept), max_values, should_go_on)


def _make(
    pool: Pool,
    shards: FieldShards,
    field: str,
    should_go_on: Callable[[], None],
    bar: ShowBar,
    say: Callable[[str], None],
) -> None:
    todo = [shard for shard in range(pool.shards) if not shards.path(shard).exists()]
    rows = np.diff(pool.first_row)
    with bar(int(rows[todo].sum())) if todo else nullcontext(NoBar()) as shown:
        for shard in todo:
            should_go_on()
            shards.make(shard)
            shown.advance(int(rows[shard]))
            # A mistyped name should not first be looked for in the whole pool.
            if shard == 0 and 0 < rows[0] == shards.read(0)[0].null_count:
                say(f"{field}: no row of {pool.shard_name(0)} has it. {_what_there_is(shards)}")


def _what_there_is(shards: FieldShards) -> str:
    names = ", ".join(repr(name[:40]) for name in shards.names(0))
    return f"The first samples have {names}." if names else "The first samples have no json."


def _frequent(
    pool: Pool, shards: FieldShards, should_go_on: Callable[[], None]
) -> tuple[dict[str, int], Counter[str]]:
    """Return the values, or, of too many, frequent ones; and the rows without one, by reason.

    Misra and Gries, 1982, in the form that merges the counts of parts (Agarwal et al., "Mergeable
    Summaries", 2012): where more than k values are counted, the (k+1)-th largest count is taken off
    all of them. A value of more than a k-th of all rows stays for certain.
    """
    counts: dict[str, int] = {}
    without: Counter[str] = Counter()
    for shard in range(pool.shards):
        should_go_on()
        column, reasons = shards.read(shard)
        without += reasons
        code_n = column.indices.drop_null().to_numpy()
        times = np.bincount(code_n, minlength=len(column.dictionary)).tolist()
        for value, count in zip(column.dictionary.to_pylist(), times, strict=True):
            counts[value] = counts.get(value, 0) + count
        counts = cut_counts(counts, _CANDIDATES)
    return counts, without


def cut_counts(counts: Mapping[str, int], most: int) -> dict[str, int]:
    """Take so much off all counts that at most so many remain above 0."""
    if len(counts) <= most:
        return dict(counts)
    cut = np.partition(np.fromiter(counts.values(), np.int64), len(counts) - most - 1)
    off = int(cut[len(counts) - most - 1])
    return {value: count - off for value, count in counts.items() if count > off}


def _coded(
    pool: Pool,
    shards: FieldShards,
    candidates: list[str],
    max_values: int,
    should_go_on: Callable[[], None],
) -> tuple[NDArray[np.int32], list[str]]:
    """Code the rows by candidates (ascending), and then by those of them that most rows have."""
    place_of = {value: place for place, value in enumerate(candidates) if value != OTHER}
    rest = len(candidates)
    codes_N = np.full(pool.rows, _NONE, np.int32)
    rows_C = np.zeros(rest + 1, np.int64)
    for shard in range(pool.shards):
        should_go_on()
        column, _ = shards.read(shard)
        # One more place, for the null.
        found = [place_of.get(value, rest) for value in column.dictionary.to_pylist()]
        code_n = column.indices.fill_null(len(found)).to_numpy()
        codes_n = np.array([*found, _NONE], np.int32)[code_n]
        codes_N[pool.first_row[shard] : pool.first_row[shard + 1]] = codes_n
        rows_C += np.bincount(codes_n[codes_n >= 0], minlength=rest + 1)
    order = np.argsort(-rows_C[:rest], kind="stable")
    own = order[rows_C[order] > 0][:max_values]
    names = [candidates[place] for place in own.tolist()]
    new_C = np.full(rest + 2, len(names), np.int32)
    new_C[own] = np.arange(len(names))
    new_C[_NONE] = _NONE
    for begin in range(0, pool.rows, _ROWS_AT_ONCE):
        part = codes_N[begin : begin + _ROWS_AT_ONCE]
        part[:] = new_C[part]
    has_others = rows_C.sum() > rows_C[own].sum()
    return codes_N, [*names, OTHER] if has_others else names
