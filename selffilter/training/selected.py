"""The rows of a selection, read shard by shard as a plan asks for them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selffilter.tables import counts_file, read_table, shard_file


class Selected:
    """A selection on disk as a plan's `WeightedRows`.

    Args:
        folder: The selection, one Parquet file a shard, and the counts of them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read = lru_cache(maxsize=256)(self._read_shard)
        self.counts_PS: NDArray[np.int64] = np.load(counts_file(folder), allow_pickle=False)

    def rows(self, shard: int, pass_: int) -> NDArray[np.int64]:
        """Return the rows of a shard with weight above `pass_`."""
        rows, weights = self._read(shard)
        return rows[weights > pass_]

    def _read_shard(self, shard: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        table = read_table(shard_file(self._folder, shard), ["row", "weight"])
        return table["row"].to_numpy(), table["weight"].to_numpy()
