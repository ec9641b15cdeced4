"""The tables that pass between the rooms, and how they are read and written.

Parquet, one file a pool shard, in the shard order of the pool index.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from selffilter.errors import UserError
from selffilter.store import write_atomically

_BELIEVED_ROWS = 1 << 24
_BELIEVED_BYTES = 64 << 20
_MOST_ROWS_PER_BYTE = 4
_MOST_PACKED = 100
_FEW_ROWS = 1 << 17
"""Of so few, handing the columns to threads takes longer than reading them."""

FACTS = pa.schema(
    [
        ("caption_chars", pa.uint32()),  # of the first caption
        ("script", pa.uint8()),  # selffilter.pool.script.Script, of the first caption's letters
        ("image_hash", pa.uint64()),  # selffilter.pool.row_facts.image_hash; only if asked for
    ]
)
"""What a pass over the pool writes down of a row whose bytes it reads; 0: failed, or not looked at.
Tables of ready embeddings have none of these, those of older runs neither."""


def scores_schema(signals: list[str], facts: Sequence[str] = tuple(FACTS.names)) -> pa.Schema:
    """Return the schema of a score table: every indexed row of a shard, a float32 column a signal.

    A row that failed, or that a signal says nothing about, has NaN there.

    Args:
        signals: Names of the signals.
        facts: Those of `FACTS` that the table has.
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
            *(FACTS.field(name) for name in facts),
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


_UNIQUE = ("row", "uid", "rank", "image_hash")


REMOVED = Path("about") / "removed.parquet"
"""In a selection's folder, the rows that were taken out before selecting: ``row`` int64, ``reason``
string, ``of_row`` int64, the row that stays in its place (-1: none), ``of`` string, the evaluation
image that it shows (null: none). Absent where nothing is removed."""

RATES = Path("about") / "groups.parquet"
"""In a selection's folder, how often each group of each watched grouping is selected:
``SelectionRates.table`` behind a column ``grouping``. Absent where nothing is watched."""

HISTOGRAMS = Path("about") / "histograms.json"
"""In a selection's folder, the scores of the base, the confident and diverse rows and the probe."""

CALIBRATION = Path("about") / "calibration.parquet"
"""In a selection's folder, ``Reliability.table`` of the fitted mixture; only with known truth."""

CLUSTERS = "clusters.npy"
"""In a selection's folder, (N,) int32, the cluster of each row, the largest is 0; -1: of none.
Absent without clusters."""


def shard_file(folder: Path, shard: int) -> Path:
    """Return the name of a shard's file in a folder of tables."""
    return folder / f"{shard:05d}.parquet"


def counts_file(folder: Path) -> Path:
    """Return the name of the file that says how many rows of each weight a selection has.

    An (P, S) int64 array in numpy's format: rows of weight above p in shard s.
    """
    return folder / "counts.npy"


def write_table(path: Path, table: pa.Table, *, durable: bool = True) -> None:
    """Write Parquet atomically; the same table gives the same bytes.

    Args:
        path: The file.
        table: What goes into it.
        durable: See `store.write_atomically`.
    """
    # A dictionary of values that hardly repeat costs a third more time, and a fifth more bytes.
    repeating = [
        field.name
        for field in table.schema
        if field.name not in _UNIQUE and not pa.types.is_floating(field.type)
    ]
    # Into memory first: a file of Python's is handed each page, and Python's lock with it.
    packed = pa.BufferOutputStream()
    pq.write_table(table, packed, compression="zstd", use_dictionary=repeating)
    write_atomically(path, lambda file: file.write(packed.getvalue()), durable=durable)


def write_tables(path: Path, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
    """Write tables of one schema into one Parquet file, atomically, one of them in memory."""

    def write(file: IO[bytes]) -> None:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for table in tables:
                writer.write_table(table)

    write_atomically(path, write)


def has_column(path: Path, name: str) -> bool:
    """Whether a Parquet file has a column."""
    return name in pq.read_schema(path).names


class UnreadableTable(UserError, ValueError):
    """A table that is damaged, or none: for whoever knows more about it, or for the user."""


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read Parquet, some of its columns; names that it does not have are passed over.

    Raises:
        FileNotFoundError: If there is no such file.
        UnreadableTable: If it is no Parquet, is damaged, or says that it has more rows than a file
            of its size can have.
    """
    try:
        with pq.ParquetFile(path, pre_buffer=True) as file:
            refuse_bomb(path, file.metadata)
            table = file.read(columns, use_threads=file.metadata.num_rows > _FEW_ROWS)
        table.validate(full=True)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise UnreadableTable(
            f"{path} cannot be read as a table: {why}. If it is damaged and belongs to a run, "
            "remove the folder it lies in: the run makes it again."
        ) from error
    return table


def refuse_bomb(path: Path, about: pq.FileMetaData) -> None:
    """Check that a Parquet file does not say that it holds more than its bytes can mean.

    A value that is the same all along takes no bytes in Parquet, and a long one packs well: a file
    of some kilobytes can say a billion rows, or unpack to gigabytes. Ours, and all that have uids,
    take a byte a row at the least, and none was seen that packs to a tenth.

    Args:
        path: The file.
        about: What it says of itself. (Not of its columns: those of a damaged file end the process,
            seen with pyarrow 26.)

    Raises:
        ValueError: If that is too much.
    """
    size, rows = path.stat().st_size, about.num_rows
    if rows > max(_BELIEVED_ROWS, _MOST_ROWS_PER_BYTE * size):
        raise ValueError(f"it says {rows:,} rows, in {size:,} bytes")
    unpacked = sum(about.row_group(g).total_byte_size for g in range(about.num_row_groups))
    if unpacked > max(_BELIEVED_BYTES, _MOST_PACKED * size):
        raise ValueError(f"its {size:,} bytes unpack to {unpacked:,}")
