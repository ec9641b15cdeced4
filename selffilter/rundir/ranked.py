"""What a round ranks its rows by, a shard at a time: the score, or the merit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from selffilter.rundir.on_disk import RunOnDisk
from selffilter.selecting.on_disk import removed_rows
from selffilter.tables import read_table, shard_file

_FLAGS = ("failure", "probe", "outside")
"""Columns of a score table: a row with any of them cannot be selected."""


class RankedScores:
    """Reads a scored round of a run; shards may be read by several threads at once.

    Args:
        run: The run.
        round_: The round.
    """

    def __init__(self, run: RunOnDisk, round_: int) -> None:
        self._folder = run.store.stage(round_, "score")
        self._signal = run.store.summary(round_, "score")["signal"]
        self._merit_N = run.merit(round_)
        self._removed = removed_rows(run.store.stage(round_, "select"))
        self._first_row = run.pool.first_row

    def of_shard(self, shard: int) -> NDArray[np.float32]:
        """Return what all rows of a shard are ranked by, (n,) float32; NaN: no score."""
        return self._read(shard, ())[0]

    def of_base(self, shard: int) -> NDArray[np.float32]:
        """Return it of those alone that the round might select, float32.

        Failures, the probe, what is outside ``pool.subset`` and what was removed as a duplicate or
        an evaluation image are not among them.
        """
        ranked_n, flags = self._read(shard, _FLAGS)
        first, end = self._first_row[shard : shard + 2].tolist()
        left_out_n = np.logical_or.reduce([flag != 0 for flag in flags])
        low, high = np.searchsorted(self._removed, [first, end])
        left_out_n[self._removed[low:high] - first] = True
        in_base: NDArray[np.float32] = ranked_n[~left_out_n]
        return in_base

    def _read(
        self, shard: int, more: tuple[str, ...]
    ) -> tuple[NDArray[np.float32], list[NDArray[np.generic]]]:
        by_merit = self._merit_N is not None
        if by_merit and not more:
            return self._merit_of(shard), []
        names = [*more] if by_merit else [self._signal, *more]
        table = read_table(shard_file(self._folder, shard), names)
        ranked_n = self._merit_of(shard) if by_merit else table[self._signal].to_numpy()
        return ranked_n, [table[name].to_numpy() for name in more]

    def _merit_of(self, shard: int) -> NDArray[np.float32]:
        assert self._merit_N is not None
        first, end = self._first_row[shard : shard + 2].tolist()
        return np.asarray(self._merit_N[first:end])
