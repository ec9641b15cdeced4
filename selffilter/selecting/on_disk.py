"""Reading score tables, writing and reading selections, a shard at a time and some at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from selffilter.errors import UserError
from selffilter.pool import uids
from selffilter.pool.subset import write_subset
from selffilter.selecting.choice import Choice
from selffilter.selecting.scratch import CHUNK_ROWS, Scratch, chunks
from selffilter.store import write_atomically
from selffilter.tables import (
    REMOVED,
    SELECTION,
    counts_file,
    read_table,
    shard_file,
    write_table,
)
from selffilter.threads import ahead, several

SHARES = ("confident", "diverse")
_UID = SELECTION.get_field_index("uid")


class Rows(Protocol):
    """What is to be known of a pool."""

    @property
    def shards(self) -> int:
        """How many shards there are."""

    @property
    def first_row(self) -> NDArray[np.int64]:
        """(S+1,) int64; shard s holds the rows ``first_row[s]:first_row[s+1]``."""

    def shard_uids(self, shard: int) -> NDArray[np.uint64]:
        """Return the uids of a shard's rows, (n, 2) uint64."""


@dataclass(frozen=True)
class Scores:
    """The score table of a whole pool; a row's place is its number.

    Attributes:
        columns: Signal → (N,) float32, NaN where there is none.
        failure_N: uint8, `Failure`.
        probe_N: bool.
        outside_N: bool; not in ``pool.subset``.
        scored_round_N: int16, the round whose model gave the score.
    """

    columns: dict[str, NDArray[np.float32]]
    failure_N: NDArray[np.uint8]
    probe_N: NDArray[np.bool_]
    outside_N: NDArray[np.bool_]
    scored_round_N: NDArray[np.int16]

    @property
    def in_base(self) -> NDArray[np.bool_]:
        """Which rows may be selected: indexed − probe − outside the subset − known failures."""
        usable: NDArray[np.bool_] = (self.failure_N == 0) & ~self.probe_N & ~self.outside_N
        return usable


def read_scores(
    folder: Path, pool: Rows, signals: Sequence[str], scratch: Scratch | None = None
) -> Scores:
    """Read some signals of a score table; 5 bytes a row, and 4 for each signal.

    Raises:
        UserError: If a shard's table is not of that shard's rows, or lacks a signal.
    """
    scratch, rows = scratch or Scratch(), pool_rows(pool)
    found = Scores(
        {signal: scratch.zeros(rows, np.float32) for signal in signals},
        scratch.zeros(rows, np.uint8),
        scratch.zeros(rows, np.bool_),
        scratch.zeros(rows, np.bool_),
        scratch.zeros(rows, np.int16),
    )
    arrays = dict(found.columns) | {
        "failure": found.failure_N,
        "probe": found.probe_N,
        "outside": found.outside_N,
        "scored_round": found.scored_round_N,
    }

    def read(shard: int) -> None:
        read_columns(shard_file(folder, shard), arrays, *pool.first_row[shard : shard + 2])

    for _ in several(read, range(pool.shards)):
        pass
    return found


def read_columns(
    path: Path, arrays: dict[str, NDArray[np.generic]], first_row: int, end_row: int
) -> None:
    """Read columns of one shard's table into their place in arrays over all rows.

    Raises:
        UserError: If the table has other rows, or lacks a column.
    """
    try:
        table = read_table(path, list(arrays))
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    missing = [name for name in arrays if name not in table.column_names]
    if missing or table.num_rows != end_row - first_row:
        what = f"no column {missing[0]}" if missing else f"{table.num_rows:,} rows"
        raise UserError(f"{path} has {what}; the shard has {end_row - first_row:,} rows.")
    for name, array in arrays.items():
        array[first_row:end_row] = table[name].to_numpy()


def write_selection(
    folder: Path,
    choice: Choice,
    pool: Rows,
    round_: int,
    weight_of: Callable[[int], int] = lambda shard: 1,
    scratch: Scratch | None = None,
) -> None:
    """Write a choice: a Parquet file a pool shard, the counts of it, DataComp's ``subset.npy``.

    Args:
        folder: Where the files go.
        choice: What is selected.
        pool: Where the rows are.
        round_: The round that selects.
        weight_of: How many times a pass meets the selected rows of a shard, on top of their own
            weights.
        scratch: Where arrays with a place for each selected row come from.
    """
    scratch, first_row = scratch or Scratch(), pool.first_row
    rows_there = sum(
        int(np.count_nonzero(choice.weight_N[part])) for part in chunks(pool_rows(pool))
    )
    uids_K2 = scratch.zeros(2 * rows_there, np.uint64).reshape(-1, 2)
    weight_K: NDArray[np.int32] = scratch.zeros(rows_there, np.int32)
    counts_of_blocks: list[NDArray[np.int64]] = []
    done = 0
    folder.mkdir(parents=True, exist_ok=True)
    blocks = (
        _Block.of(choice, first_row[first : end + 1], range(first, end), weight_of, round_)
        for first, end in _blocks(first_row)
    )
    for block in ahead(blocks):
        whole = slice(done, done + len(block.rows_k))
        weight_K[whole] = block.weight_k
        counts_of_blocks.append(block.counts())
        done = whole.stop
        for _ in several(partial(block.write, folder, pool, uids_K2[whole]), block.shards):
            pass
    os.sync()  # once, and not a file at a time: a selection without its marker is made anew
    counts_PS = np.zeros((max(map(len, counts_of_blocks), default=0), pool.shards), np.int64)
    done = 0
    for counts_Ps in counts_of_blocks:
        passes, shards = counts_Ps.shape
        counts_PS[:passes, done : done + shards] = counts_Ps
        done += shards
    write_atomically(counts_file(folder), lambda file: np.save(file, counts_PS))
    write_subset(folder / "subset.npy", uids_K2, weight_K)


@dataclass(frozen=True)
class _Block:
    """The selected rows of some shards: what is told of them at once costs the least.

    Attributes:
        shards: Their numbers.
        bounds: Where the rows of each begin and end here, (shards + 1,).
        rows_k: int64, ascending.
        weight_k: int32.
        table: `SELECTION` but for the uids.
    """

    shards: range
    bounds: NDArray[np.int64]
    rows_k: NDArray[np.int64]
    weight_k: NDArray[np.int32]
    table: pa.Table

    @classmethod
    def of(
        cls,
        choice: Choice,
        first_row: NDArray[np.int64],
        shards: range,
        weight_of: Callable[[int], int],
        round_: int,
    ) -> _Block:
        begin, end = int(first_row[0]), int(first_row[-1])
        rows_k = begin + np.flatnonzero(choice.weight_N[begin:end])
        bounds = np.searchsorted(rows_k, first_row)
        times_k = np.repeat(np.array([weight_of(s) for s in shards], np.int32), np.diff(bounds))
        weight_k = choice.weight_N[rows_k] * times_k
        share_k = np.where(choice.confident_N[rows_k], 0, 1).astype(np.int8)
        score_k = choice.ranked_by_N[rows_k]
        columns = [
            pa.array(rows_k),
            pa.array(weight_k),
            pa.DictionaryArray.from_arrays(pa.array(share_k), pa.array(SHARES)),
            pa.array(np.full(len(rows_k), round_, np.int32)),
            pa.array(score_k),
            pa.array(choice.ranking.ranks(score_k)),
        ]
        schema = SELECTION.remove(_UID)
        return cls(shards, bounds, rows_k, weight_k, pa.Table.from_arrays(columns, schema=schema))

    def write(self, folder: Path, pool: Rows, uids_k2: NDArray[np.uint64], shard: int) -> None:
        """Write one shard's file, and fill in the uids of its rows."""
        place = shard - self.shards.start
        part = slice(int(self.bounds[place]), int(self.bounds[place + 1]))
        if part.start < part.stop:
            uids_k2[part] = pool.shard_uids(shard)[self.rows_k[part] - pool.first_row[shard]]
        table = self.table.slice(part.start, part.stop - part.start)
        table = table.add_column(_UID, SELECTION.field(_UID), uids.to_arrow(uids_k2[part]))
        write_table(shard_file(folder, shard), table, durable=False)

    def counts(self) -> NDArray[np.int64]:
        """Count rows of weight above p in each shard, (P, shards), P being the largest weight."""
        shards, most = len(self.shards), int(self.weight_k.max(initial=0))
        place_k = np.repeat(np.arange(shards), np.diff(self.bounds))
        size = shards * (most + 1)
        rows_sw = np.bincount(place_k * (most + 1) + self.weight_k, minlength=size)
        return rows_sw.reshape(shards, -1)[:, :0:-1].cumsum(axis=1)[:, ::-1].T


def _blocks(first_row: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Cut the shards into runs of about `CHUNK_ROWS` rows: first, and one past the last."""
    shards, first = len(first_row) - 1, 0
    while first < shards:
        reach = int(np.searchsorted(first_row, first_row[first] + CHUNK_ROWS, side="right")) - 1
        end = min(shards, max(first + 1, reach))
        yield first, end
        first = end


def pool_rows(pool: Rows) -> int:
    """Return how many rows a pool has."""
    return int(pool.first_row[-1])


def read_shares(
    folder: Path, pool: Rows, scratch: Scratch | None = None
) -> dict[str, NDArray[np.bool_]]:
    """Read which rows a selection has, (N,) bool for each share."""
    scratch, rows = scratch or Scratch(), pool_rows(pool)
    marks: dict[str, NDArray[np.bool_]] = {share: scratch.zeros(rows, np.bool_) for share in SHARES}

    def read(shard: int) -> None:
        table, confident_k = read_shard(folder, shard, ["row"])
        rows_k = table["row"].to_numpy()
        marks["confident"][rows_k[confident_k]] = True
        marks["diverse"][rows_k[~confident_k]] = True

    for _ in several(read, range(pool.shards)):
        pass
    return marks


def read_shard(
    folder: Path, shard: int, columns: Sequence[str]
) -> tuple[pa.Table, NDArray[np.bool_]]:
    """Read what is selected of one shard.

    Args:
        folder: A selection.
        shard: The shard's number.
        columns: Of `SELECTION`.

    Returns:
        Those columns, rows ascending, and which rows are confident, (k,) bool; the others are
        diverse.
    """
    table = read_table(shard_file(folder, shard), [*columns, "share"])
    return table.select(columns), pc.equal(table["share"], SHARES[0]).to_numpy()


def removed_rows(folder: Path) -> NDArray[np.int64]:
    """Return the rows that were removed before a selection was made, ascending; 8 bytes each."""
    path = folder / REMOVED
    if not path.exists():
        return np.empty(0, np.int64)
    return np.sort(read_table(path, ["row"])["row"].to_numpy())


class Selection(NamedTuple):
    """What a round has selected, rows ascending.

    Attributes:
        rows_N: int64.
        uids_N2: (N, 2) uint64.
        weights_N: int64, how many times a pass meets the row.
    """

    rows_N: NDArray[np.int64]
    uids_N2: NDArray[np.uint64]
    weights_N: NDArray[np.int64]


def read_selection(folder: Path) -> Selection:
    """Read all of a selection; 28 bytes a row."""
    names = ["row", "uid", "weight"]
    paths = (path for path in sorted(folder.glob("*.parquet")) if path.stem.isdecimal())
    tables = [read_table(path, names) for path in paths]
    whole = pa.concat_tables([SELECTION.empty_table().select(names), *tables])
    weights_N = whole["weight"].to_numpy().astype(np.int64)
    return Selection(whole["row"].to_numpy(), uids.from_arrow(whole["uid"]), weights_N)
