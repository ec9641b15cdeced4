"""A shard's score table: every indexed row of the shard, scored or with the reason why not."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from selffilter.pool import uids
from selffilter.pool.base import Base
from selffilter.pool.failures import Failure
from selffilter.tables import scores_schema


def score_table(
    base: Base,
    shard: int,
    rows_n: NDArray[np.int64],
    columns: dict[str, NDArray[np.float32]],
    failures_n: NDArray[np.uint8],
    round_: int,
) -> pa.Table:
    """Put the rows that were looked at and those known to be unusable into one table.

    Args:
        base: Tells the probe, and the defects known to the index.
        shard: The shard's number.
        rows_n: The rows that were looked at.
        columns: Signal → its value for each of them, (n,) float32.
        failures_n: The verdict on each of them, (n,) uint8.
        round_: What `scored_round` says.
    """
    pool = base.pool
    rows_N = pool.shard_rows(shard)
    place_n = rows_n - pool.first_row[shard]
    failure_N = np.zeros(len(rows_N), np.uint8)
    defect_rows, defect_failures = pool.defects(shard)
    failure_N[defect_rows - pool.first_row[shard]] = defect_failures
    failure_N[place_n] = failures_n

    def spread(column_n: NDArray[np.float32]) -> pa.Array:
        column_N = np.full(len(rows_N), np.nan, np.float32)
        column_N[place_n] = column_n
        return pa.array(column_N)

    return pa.Table.from_arrays(
        [
            pa.array(rows_N),
            uids.to_arrow(pool.shard_uids(shard)),
            *(spread(column) for column in columns.values()),
            pa.array(failure_N),
            pa.array(base.in_probe(rows_N) & (failure_N == Failure.none)),
            pa.array(base.outside(shard) & (failure_N == Failure.none)),
            pa.array(np.full(len(rows_N), round_, np.int32)),
        ],
        schema=scores_schema(list(columns)),
    )
