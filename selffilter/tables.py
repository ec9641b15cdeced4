"""The tables that pass between the rooms, and how they are read and written.

Parquet, one file a pool shard, in the shard order of the pool index.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from selffilter.store import write_atomically


def scores_schema(signals: list[str]) -> pa.Schema:
    """Return the schema of a score table: every indexed row of a shard, a float32 column a signal.

    A row that failed, or that a signal says nothing about, has NaN there.
    """
    return pa.schema(
        [
            ("row", pa.int64()),
            ("uid", pa.binary(16)),
            *((signal, pa.float32()) for signal in signals),
            ("failure", pa.uint8()),  # selffilter.pool.failures.Failure
            ("probe", pa.bool_()),  # scored, never trained on
            ("outside", pa.bool_()),  # not in pool.subset: scored, never trained on or selected
            ("scored_round", pa.int32()),
        ]
    )


SELECTION = pa.schema(
    [
        ("row", pa.int64()),
        ("uid", pa.binary(16)),
        ("weight", pa.int32()),  # how many times a pass over the selection meets the row
        ("share", pa.dictionary(pa.int8(), pa.string())),  # confident or diverse
        ("round", pa.int32()),
        ("score", pa.float32()),  # NaN where the selection did not look at scores
        ("rank", pa.int64()),  # 0 = the best of the scored base; -1 without scores
    ]
)
"""What the next round trains on, and why each row is there."""


def shard_file(folder: Path, shard: int) -> Path:
    """Return the name of a shard's file in a folder of tables."""
    return folder / f"{shard:05d}.parquet"


def counts_file(folder: Path) -> Path:
    """Return the name of the file that says how many rows of each weight a selection has.

    An (P, S) int64 array in numpy's format: rows of weight above p in shard s.
    """
    return folder / "counts.npy"


def write_table(path: Path, table: pa.Table) -> None:
    """Write Parquet atomically; the same table gives the same bytes."""
    write_atomically(path, lambda file: pq.write_table(table, file, compression="zstd"))


def write_tables(path: Path, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
    """Write tables of one schema into one Parquet file, atomically, one of them in memory."""

    def write(file: IO[bytes]) -> None:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for table in tables:
                writer.write_table(table)

    write_atomically(path, write)


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read Parquet, some of its columns."""
    return pq.read_table(path, columns=columns, memory_map=False, partitioning=None)
