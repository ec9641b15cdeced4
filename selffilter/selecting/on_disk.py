"""Reading score tables, writing and reading selections."""

from __future__ import annotations

from collections.abc import Callable
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
from selffilter.store import write_atomically
from selffilter.tables import SELECTION, counts_file, read_table, shard_file, write_table

SHARES = ("confident", "diverse")


class Scores(NamedTuple):
    """The score table of a whole pool, rows ascending.

    Attributes:
        rows_N: Every indexed row.
        scores_N: float32, NaN where there is none.
        failure_N: uint8, `Failure`.
        probe_N: bool.
        outside_N: bool; not in ``pool.subset``.
        scored_round_N: int32, the round whose model gave the score.
    """

    rows_N: NDArray[np.int64]
    scores_N: NDArray[np.float32]
    failure_N: NDArray[np.uint8]
    probe_N: NDArray[np.bool_]
    outside_N: NDArray[np.bool_]
    scored_round_N: NDArray[np.int32]

    @property
    def in_base(self) -> NDArray[np.bool_]:
        """Which rows may be selected: indexed − probe − outside the subset − known failures."""
        usable: NDArray[np.bool_] = (self.failure_N == 0) & ~self.probe_N & ~self.outside_N
        return usable


def read_scores(folder: Path, shards: int, signal: str) -> Scores:
    """Read one signal of a score table; 19 bytes a row."""
    columns = ["row", signal, "failure", "probe", "outside", "scored_round"]
    tables = [read_table(shard_file(folder, shard), columns) for shard in range(shards)]
    whole = pa.concat_tables(tables)
    return Scores(*(whole[name].to_numpy() for name in columns))


def write_selection(
    folder: Path,
    mix: Mix,
    pool: Pool,
    round_: int,
    weight_of: Callable[[int], int] = lambda shard: 1,
) -> None:
    """Write a mix: one Parquet file a pool shard, the counts of it, and DataComp's ``subset.npy``.

    Args:
        folder: Where the files go.
        mix: What is selected.
        pool: Where the rows are.
        round_: The round that selects.
        weight_of: How many times a pass meets the selected rows of a shard.
    """
    shard_K = pool.shard_of(mix.rows_K)
    bounds = np.searchsorted(shard_K, np.arange(pool.shards + 1))
    every_uid = np.empty((len(mix.rows_K), 2), dtype=np.uint64)
    weight_K = np.empty(len(mix.rows_K), dtype=np.int32)
    for shard in range(pool.shards):
        part = slice(bounds[shard], bounds[shard + 1])
        rows = mix.rows_K[part]
        every_uid[part] = pool.shard_uids(shard)[rows - pool.first_row[shard]]
        weight_K[part] = weight_of(shard)
        share = np.where(mix.confident_K[part], 0, 1).astype(np.int8)
        table = pa.Table.from_arrays(
            [
                pa.array(rows),
                uids.to_arrow(every_uid[part]),
                pa.array(weight_K[part]),
                pa.DictionaryArray.from_arrays(pa.array(share), pa.array(SHARES)),
                pa.array(np.full(len(rows), round_, np.int32)),
                pa.array(mix.scores_K[part]),
                pa.array(mix.rank_K[part]),
            ],
            schema=SELECTION,
        )
        write_table(shard_file(folder, shard), table)
    rows_S, weight_S = np.diff(bounds), np.array([weight_of(s) for s in range(pool.shards)])
    counts_PS = np.where(weight_S > np.arange(weight_S.max(initial=1))[:, None], rows_S, 0)
    counts_PS = counts_PS[counts_PS.any(axis=1)].astype(np.int64)
    write_atomically(counts_file(folder), lambda file: np.save(file, counts_PS))
    write_subset(folder / "subset.npy", every_uid, weight_K)


def read_share(folder: Path, shards: int, share: str) -> NDArray[np.int64]:
    """Read the rows of one share of a selection, ascending."""
    parts = [np.empty(0, np.int64)]
    for shard in range(shards):
        table = read_table(shard_file(folder, shard), ["row", "share"])
        parts.append(
            table.filter(pc.equal(table["share"].cast(pa.string()), share))["row"].to_numpy()
        )
    return np.concatenate(parts)


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
    tables = [
        read_table(path, ["row", "uid", "weight"]) for path in sorted(folder.glob("*.parquet"))
    ]
    whole = pa.concat_tables([SELECTION.empty_table().select(["row", "uid", "weight"]), *tables])
    weights_N = whole["weight"].to_numpy().astype(np.int64)
    return Selection(whole["row"].to_numpy(), uids.from_arrow(whole["uid"]), weights_N)
