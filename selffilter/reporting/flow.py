"""How samples flow between kept and dropped from round to round, counted over the whole pool."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selffilter.pool.index import Pool
from selffilter.reporting.draw_of_rows import ShowBar
from selffilter.reporting.fates import read_fates
from selffilter.rundir.on_disk import RunOnDisk
from selffilter.store import RunStore
from selffilter.threads import several

FATES = ("dropped", "confident", "diverse")
"""Of a row of the base, in the order of every count here."""


@dataclass(frozen=True)
class Flow:
    """Where the rows of the base went, over R rounds that have selected.

    Attributes:
        rounds: Their numbers, (R,).
        count_RF: Rows of each fate in each round, int64.
        moved_RFF: Between a round and the next: ``moved[r, f, g]`` rows that had fate f in round r
            and g in the next, (R − 1, 3, 3) int64. A row that was taken out before selecting, in
            one of the two, counts there as dropped if the other has selected it.
    """

    rounds: list[int]
    count_RF: NDArray[np.int64]
    moved_RFF: NDArray[np.int64]


def count_flow(run: RunOnDisk, bar: ShowBar) -> Flow:
    """Count, reading which rows each round has selected, one shard in memory a thread.

    Args:
        run: A run that has selected at least once.
        bar: Shows progress over so many shards.
    """
    rounds, pool = run.done("select"), run.pool
    bases = [int(run.store.summary(round_, "select")["base"]) for round_ in rounds]

    def count(shard: int) -> NDArray[np.int64]:
        fates = [_fates(run.store, pool, round_, shard) for round_ in rounds]
        found = np.zeros((max(0, len(rounds) - 1), 3, 3), np.int64)
        for place, (before_n, after_n) in enumerate(itertools.pairwise(fates)):
            pairs = before_n.astype(np.int64) * 3 + after_n
            found[place] = np.bincount(pairs, minlength=9).reshape(3, 3)
        return found

    moved_RFF = np.zeros((max(0, len(rounds) - 1), 3, 3), np.int64)
    with bar("follow the selections", pool.shards) as shown:
        for found in several(count, range(pool.shards)):
            moved_RFF += found
            shown.advance(1)
    count_RF = np.array([_counts(run.store, r, b) for r, b in zip(rounds, bases, strict=True)])
    for place, moved_FF in enumerate(moved_RFF):
        left = count_RF[place, 0] - moved_FF[0, 1:].sum()
        come = count_RF[place + 1, 0] - moved_FF[1:, 0].sum()
        moved_FF[0, 0] = max(0, min(left, come))
    return Flow(rounds, count_RF, moved_RFF)


def _counts(store: RunStore, round_: int, base: int) -> list[int]:
    summary = store.summary(round_, "select")
    return [base - summary["selected"], summary["confident"], summary["diverse"]]


def _fates(store: RunStore, pool: Pool, round_: int, shard: int) -> NDArray[np.int8]:
    """Return the fate of each of a shard's rows; those of no base look like dropped ones."""
    rows_k, fate_k = read_fates(store.stage(round_, "select"), shard)
    first, end = pool.first_row[shard : shard + 2].tolist()
    fate_n = np.zeros(end - first, np.int8)
    fate_n[rows_k - first] = fate_k
    return fate_n
