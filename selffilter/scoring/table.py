"""A shard's score table: every indexed row of the shard, scored or with the reason why not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from selffilter.pool import uids
from selffilter.pool.base import Base
from selffilter.pool.failures import Failure
from selffilter.scoring.afresh import NEVER
from selffilter.tables import FACTS, scores_schema


def score_table(
    base: Base,
    shard: int,
    rows_n: NDArray[np.int64],
    columns: dict[str, NDArray[np.float32]],
    failures_n: NDArray[np.uint8],
    round_: int,
    earlier: pa.Table | None = None,
    facts: Mapping[str, NDArray[Any]] | None = None,
) -> pa.Table:
    """Put the rows that were looked at and those known to be unusable into one table.

    A row that was not looked at keeps what an earlier table says of it; without one it has no
    score, no failure, no facts, and was scored in round `afresh.NEVER`.

    Args:
        base: Tells the probe, and the defects known to the index.
        shard: The shard's number.
        rows_n: The rows that were looked at.
        columns: Signal → its value for each of them, (n,) float32.
        failures_n: The verdict on each of them, (n,) uint8.
        round_: What `scored_round` says of them.
        earlier: The shard's table of an earlier round; one of an older run lacks the facts.
        facts: Name in `tables.FACTS` → its value for each of the rows that were looked at, (n,) of
            its type. None: the table has none of these columns.
    """
    pool = base.pool
    rows_N = pool.shard_rows(shard)
    place_n = rows_n - pool.first_row[shard]

    def before(name: str, otherwise: float, dtype: DTypeLike) -> NDArray[Any]:
        if earlier is None or name not in earlier.column_names:
            return np.full(len(rows_N), otherwise, dtype)
        return earlier[name].to_numpy().copy()

    failure_N = before("failure", 0, np.uint8)
    defect_rows, defect_failures = pool.defects(shard)
    failure_N[defect_rows - pool.first_row[shard]] = defect_failures
    failure_N[place_n] = failures_n

    def spread(name: str, column_n: Any, otherwise: float, dtype: DTypeLike) -> pa.Array:
        column_N = before(name, otherwise, dtype)
        column_N[place_n] = column_n
        return pa.array(column_N)

    facts = facts or {}
    return pa.Table.from_arrays(
        [
            pa.array(rows_N),
            uids.to_arrow(pool.shard_uids(shard)),
            *(spread(name, found_n, np.nan, np.float32) for name, found_n in columns.items()),
            pa.array(failure_N),
            pa.array(base.in_probe(rows_N) & (failure_N == Failure.none)),
            pa.array(base.outside(shard) & (failure_N == Failure.none)),
            spread("scored_round", round_, NEVER, np.int32),
            *(
                spread(name, found_n, 0, FACTS.field(name).type.to_pandas_dtype())
                for name, found_n in facts.items()
            ),
        ],
        schema=scores_schema(list(columns), facts=list(facts)),
    )
