"""Reading score tables, writing and reading selections, a shard at a time and some at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

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
from selffilter.tables import SELECTION, counts_file, read_table, shard_file, write_table

SHARES = ("confident", "diverse")
_THREADS = min(8, os.cpu_count() or 1)

Job = TypeVar("Job")
Result = TypeVar("Result")


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
    every_uid = scratch.zeros(2 * rows_there, np.uint64).reshape(-1, 2)
    weight_K: NDArray[np.int32] = scratch.zeros(rows_there, np.int32)
    by_weight: list[NDArray[np.int64]] = []
    done = 0
    folder.mkdir(parents=True, exist_ok=True)
    for first, end in _blocks(first_row):
        begin = int(first_row[first])
        rows_k = begin + np.flatnonzero(choice.weight_N[begin : first_row[end]])
        rank_k = choice.ranking.ranks(choice.ranked_by_N[rows_k])
        bounds = np.searchsorted(rows_k, first_row[first : end + 1])

        def write(
            shard: int,
            first: int = first,
            done: int = done,
            rows_k: NDArray[np.int64] = rows_k,
            rank_k: NDArray[np.int64] = rank_k,
            bounds: NDArray[np.int64] = bounds,
        ) -> NDArray[np.int64]:
            part = slice(bounds[shard - first], bounds[shard - first + 1])
            whole = slice(done + part.start, done + part.stop)
            rows = rows_k[part]
            weight_K[whole] = choice.weight_N[rows] * np.int32(weight_of(shard))
            if len(rows):
                every_uid[whole] = pool.shard_uids(shard)[rows - first_row[shard]]
            share = np.where(choice.confident_N[rows], 0, 1).astype(np.int8)
            table = pa.Table.from_arrays(
                [
                    pa.array(rows),
                    uids.to_arrow(every_uid[whole]),
                    pa.array(weight_K[whole]),
                    pa.DictionaryArray.from_arrays(pa.array(share), pa.array(SHARES)),
                    pa.array(np.full(len(rows), round_, np.int32)),
                    pa.array(choice.ranked_by_N[rows]),
                    pa.array(rank_k[part]),
                ],
                schema=SELECTION,
            )
            write_table(shard_file(folder, shard), table, durable=False)
            return np.bincount(weight_K[whole])[1:]  # by weight, from 1 on

        by_weight += several(write, range(first, end))
        done += len(rows_k)
    os.sync()  # once, and not a file at a time: a selection without its marker is made anew
    counts_PS = np.zeros((max(map(len, by_weight), default=0), pool.shards), np.int64)
    for shard, rows_P in enumerate(by_weight):
        counts_PS[: len(rows_P), shard] = rows_P[::-1].cumsum()[::-1]  # rows of weight above p
    write_atomically(counts_file(folder), lambda file: np.save(file, counts_PS))
    write_subset(folder / "subset.npy", every_uid, weight_K)


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
        table = read_table(shard_file(folder, shard), ["row", "share"])
        share_n, rows_n = table["share"].cast(pa.string()), table["row"].to_numpy()
        for share, marks_N in marks.items():
            marks_N[rows_n[pc.equal(share_n, share).to_numpy()]] = True

    for _ in several(read, range(pool.shards)):
        pass
    return marks


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


def several(work: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
    """Do jobs on some threads, and yield their results in the order of the jobs.

    Reading and writing Parquet leave Python's lock alone.
    """
    with ThreadPoolExecutor(_THREADS) as threads:
        try:
            yield from threads.map(work, jobs)
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
