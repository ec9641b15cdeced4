"""Reading score tables, writing and reading selections."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from selffilter.pool import uids
from selffilter.pool.index import Pool
from selffilter.pool.subset import write_subset
from selffilter.selecting.mix import Mix
from selffilter.tables import SELECTION, read_table, shard_file, write_table

SHARES = ("confident", "diverse")


class Scores(NamedTuple):
    """The score table of a whole pool, rows ascending.

    Attributes:
        rows_N: Every indexed row.
        scores_N: float32, NaN where there is none.
        failure_N: uint8, `Failure`.
        probe_N: bool.
        outside_N: bool; not in ``pool.subset``.
    """

    rows_N: NDArray[np.int64]
    scores_N: NDArray[np.float32]
    failure_N: NDArray[np.uint8]
    probe_N: NDArray[np.bool_]
    outside_N: NDArray[np.bool_]

    @property
    def in_base(self) -> NDArray[np.bool_]:
        """Which rows may be selected: indexed − probe − outside the subset − known failures."""
        usable: NDArray[np.bool_] = (self.failure_N == 0) & ~self.probe_N & ~self.outside_N
        return usable


def read_scores(folder: Path, shards: int, signal: str) -> Scores:
    """Read one signal of a score table; 15 bytes a row."""
    columns = ["row", signal, "failure", "probe", "outside"]
    tables = [read_table(shard_file(folder, shard), columns) for shard in range(shards)]
    whole = pa.concat_tables(tables)
    return Scores(*(whole[name].to_numpy() for name in columns))


def write_selection(folder: Path, mix: Mix, pool: Pool, round_: int) -> None:
    """Write a mix: one Parquet file a pool shard, and DataComp's ``subset.npy``."""
    shard_K = pool.shard_of(mix.rows_K)
    bounds = np.searchsorted(shard_K, np.arange(pool.shards + 1))
    every_uid = np.empty((len(mix.rows_K), 2), dtype=np.uint64)
    for shard in range(pool.shards):
        part = slice(bounds[shard], bounds[shard + 1])
        rows = mix.rows_K[part]
        every_uid[part] = pool.shard_uids(shard)[rows - pool.first_row[shard]]
        share = np.where(mix.confident_K[part], 0, 1).astype(np.int8)
        table = pa.Table.from_arrays(
            [
                pa.array(rows),
                uids.to_arrow(every_uid[part]),
                pa.array(np.ones(len(rows), np.int32)),
                pa.DictionaryArray.from_arrays(pa.array(share), pa.array(SHARES)),
                pa.array(np.full(len(rows), round_, np.int32)),
                pa.array(mix.scores_K[part]),
                pa.array(mix.rank_K[part]),
            ],
            schema=SELECTION,
        )
        write_table(shard_file(folder, shard), table)
    write_subset(folder / "subset.npy", every_uid)


def read_share(folder: Path, shards: int, share: str) -> NDArray[np.int64]:
    """Read the rows of one share of a selection, ascending."""
    parts = [np.empty(0, np.int64)]
    for shard in range(shards):
        table = read_table(shard_file(folder, shard), ["row", "share"])
        parts.append(
            table.filter(pc.equal(table["share"].cast(pa.string()), share))["row"].to_numpy()
        )
    return np.concatenate(parts)
