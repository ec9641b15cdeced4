"""Parquet files of uids that somebody else wrote, some rows in memory at a time.

A text that many rows share stands once in such a file, and a file of some kilobytes can mean a
terabyte of them; so the texts are looked at before they are repeated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from selffilter.pool import uids
from selffilter.tables import refuse_bomb

ROWS_AT_ONCE = 1 << 20


def uid_batches(
    path: Path, numbers: Sequence[str] = (), if_there: Sequence[str] = ()
) -> Iterator[tuple[NDArray[np.uint64], pa.RecordBatch]]:
    """Read uids, and the numbers beside them.

    Args:
        path: The file: ``uid`` is 32 hex digits, or 16 bytes.
        numbers: Columns of numbers that it must have.
        if_there: Columns of numbers that it may have.

    Yields:
        Uids, (n, 2) uint64, and the batch with those of the columns that there are.

    Raises:
        ValueError: If it lacks a column, or one holds something else; also `pa.ArrowException` and
            OSError, as Arrow has it.
    """
    schema = pq.read_schema(path)
    for name in ("uid", *numbers):
        if schema.names.count(name) != 1:
            raise ValueError(f"it has no column {name}; it has {', '.join(schema.names) or 'none'}")
    columns = [*numbers, *(name for name in if_there if name in schema.names)]
    for name in columns:
        if not _is_number(schema.field(name).type):
            raise ValueError(f"{name} is {schema.field(name).type}, not a number")
    with pq.ParquetFile(path, read_dictionary=["uid"]) as file:
        refuse_bomb(path, file.metadata)
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=["uid", *columns]):
            batch.validate(full=True)
            yield uids_of_column(batch["uid"]), batch


def uids_of_column(column: pa.Array) -> NDArray[np.uint64]:
    """Return a column of uids, 32 hex digits or 16 bytes each, as (N, 2) uint64.

    Raises:
        ValueError: If a row has none, or something else.
    """
    if column.null_count:
        raise ValueError(f"{column.null_count:,} rows have no uid")
    if pa.types.is_dictionary(column.type):
        texts = column.dictionary
        if len(column) and (texts.null_count or pc.max(pc.binary_length(texts)).as_py() > 32):
            raise _no_uids(texts.type)
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        column = column.cast(uids.UID_TYPE)
    if pa.types.is_fixed_size_binary(column.type) and column.type.byte_width == 16:
        return uids.from_arrow(column)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        text = column.cast(pa.large_string())
        ends = np.frombuffer(text.buffers()[1] or bytes(8), np.int64)[text.offset :]
        if (np.diff(ends[: len(text) + 1]) == 32).all():
            raw = np.frombuffer(text.buffers()[2] or b"", np.uint8)[ends[0] :][: 32 * len(text)]
            if uids.IS_HEX[raw].all():
                return uids.from_digits(raw.tobytes())
    raise _no_uids(kind)


def _no_uids(kind: pa.DataType) -> ValueError:
    return ValueError(f"uid holds {kind} that are not 32 hex digits each")


def _is_number(kind: pa.DataType) -> bool:
    return any(
        is_kind(kind)
        for is_kind in (
            pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal
        )
    )  # fmt: skip
