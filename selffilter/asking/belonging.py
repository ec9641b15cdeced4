"""Which of the watched groups some rows belong to, and how often those are selected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from selffilter.asking.standing import Group
from selffilter.pool.field import JSON, Field
from selffilter.pool.field_shards import FieldShards
from selffilter.pool.fields import OTHER
from selffilter.pool.index import Pool
from selffilter.rundir.on_disk import number
from selffilter.selecting.bias import UNKNOWN_NAME
from selffilter.selecting.facts import FACT_GROUPINGS, fact_groups
from selffilter.tables import CLUSTERS, RATES, read_table


def groups_of(
    pool: Pool,
    folder: Path,
    rows_K: NDArray[np.int64],
    shard_K: NDArray[np.int64],
    facts: Sequence[dict[str, Any]],
) -> list[tuple[Group, ...]]:
    """Say which groups rows belong to, of groupings with more than one.

    Args:
        pool: The pool.
        folder: A round's selection, whose rates are looked up.
        rows_K: The rows, (K,) int64.
        shard_K: Their shards, (K,) int64.
        facts: What the round's score tables say of them.

    Returns:
        The groups of each row. Left out is what cannot be told: of a field that is not kept beside
        the index any more, or a fact that the score tables of an older version do not have.
    """
    found: list[tuple[Group, ...]] = [() for _ in facts]
    if not len(rows_K) or not (folder / RATES).exists():
        return found
    rates = read_table(folder / RATES)
    for grouping in dict.fromkeys(rates["grouping"].to_pylist()):
        lines = rates.filter(pc.equal(rates["grouping"], grouping)).to_pylist()
        of_group = {line["group"]: line for line in lines}
        if len(of_group) < 2:
            continue
        names = _names(grouping, pool, folder, rows_K, shard_K, facts)
        for k, name in enumerate(names):
            if grouping.startswith(JSON) and name not in (*of_group, UNKNOWN_NAME):
                name = OTHER  # a value that few rows have
            if line := of_group.get(name):
                rate = number(line["relative_rate"])
                group = Group(grouping, name, line["base"], rate, number(line["standard_error"]))
                found[k] = (*found[k], group)
    return found


def _names(
    grouping: str,
    pool: Pool,
    folder: Path,
    rows_K: NDArray[np.int64],
    shard_K: NDArray[np.int64],
    facts: Sequence[dict[str, Any]],
) -> Iterator[str]:
    """Yield the name of each row's group; nothing where that cannot be told."""
    if grouping == "source":
        yield from (pool.sources[pool.source_of(shard)] for shard in shard_K.tolist())
    elif grouping in FACT_GROUPINGS and all(grouping in fact for fact in facts):
        values_K = np.array([fact[grouping] for fact in facts], np.int64)
        groups = fact_groups(values_K, grouping)
        named = [*groups.names, UNKNOWN_NAME]
        yield from (named[code] for code in groups.codes_N.tolist())
    elif grouping == "cluster" and (folder / CLUSTERS).exists():
        codes_N = np.load(folder / CLUSTERS, mmap_mode="r", allow_pickle=False)
        for code in codes_N[rows_K].tolist():
            yield UNKNOWN_NAME if code < 0 else str(code)
    elif grouping.startswith(JSON):
        yield from _values(FieldShards(pool, Field.parse(grouping.removeprefix(JSON), grouping)),
                           pool, rows_K, shard_K)  # fmt: skip


def _values(
    kept: FieldShards, pool: Pool, rows_K: NDArray[np.int64], shard_K: NDArray[np.int64]
) -> Iterator[str]:
    """Yield what a field of the rows' jsons says, as it was read for the run."""
    if not all(kept.path(shard).exists() for shard in np.unique(shard_K).tolist()):
        return
    columns = {shard: kept.read(shard)[0] for shard in np.unique(shard_K).tolist()}
    for row, shard in zip(rows_K.tolist(), shard_K.tolist(), strict=True):
        value = columns[shard][row - int(pool.first_row[shard])].as_py()
        yield UNKNOWN_NAME if value is None else value
