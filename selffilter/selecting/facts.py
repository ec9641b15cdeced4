"""Facts of rows that score tables tell beside the scores, and the groups that they make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selffilter.errors import UserError
from selffilter.pool.script import Script
from selffilter.selecting.groups import CAPTION_CHARS, Groups, bucketed
from selffilter.selecting.on_disk import Rows, read_columns
from selffilter.tables import FACTS, has_column, shard_file
from selffilter.threads import several

FACT_GROUPINGS = ("script", "caption_chars")


def read_fact(folder: Path, pool: Rows, name: str) -> NDArray[Any] | None:
    """Read a fact of all rows, (N,) of its type; None if the tables are without it.

    Args:
        folder: The score tables.
        pool: Whose they are.
        name: Of `tables.FACTS`.
    """
    if not pool.shards or not has_column(shard_file(folder, 0), name):
        return None
    values_N = np.zeros(int(pool.first_row[-1]), FACTS.field(name).type.to_pandas_dtype())

    def read(shard: int) -> None:
        path = shard_file(folder, shard)
        read_columns(path, {name: values_N}, *pool.first_row[shard : shard + 2])

    for _ in several(read, range(pool.shards)):
        pass
    return values_N


def read_fact_groups(folder: Path, pool: Rows, name: str) -> Groups:
    """Group rows by the script of their caption, or by its length.

    Raises:
        UserError: If the tables do not tell it.
    """
    values_N = read_fact(folder, pool, name)
    if values_N is None:
        raise UserError(f"{folder} has no column {name}: score again to have it.")
    return fact_groups(values_N, name)


def fact_groups(values_N: NDArray[np.integer], name: str) -> Groups:
    """Group rows by what is known of them.

    Args:
        values_N: A fact of each row, (N,).
        name: Which one, of `FACT_GROUPINGS`.
    """
    if name == "script":
        names = [script.name for script in Script]
        codes_N = values_N.astype(np.int32)
        codes_N[codes_N == Script.none] = -1
        return Groups(name, codes_N, names)
    return bucketed(name, values_N, CAPTION_CHARS)
