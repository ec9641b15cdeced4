"""Which rows may be trained on: base = indexed − probe − known failures, or a subset of that.

The probe is a seeded part of the pool that is scored but never trained on; what the model gives
to rows it has consumed, compared with the probe, tells memorising from generalising. With
``pool.subset`` the base holds only the rows whose uid stands in a DataComp subset file; the rows
outside it are still scored, so that two runs on two halves of a pool can judge each other's half.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selffilter.config import Config
from selffilter.errors import UserError
from selffilter.pool.index import Pool
from selffilter.pool.subset import read_subset
from selffilter.pool.uids import UidTable
from selffilter.randomness import below_fraction, draw


class Base:
    """The rows of a pool that training may use.

    Args:
        pool: The pool.
        seed: The run's seed.
        probe_fraction: Share of the indexed rows that goes to the probe.
        probe_max_rows: The probe is made smaller to hold about this many rows at most.
        subset: A DataComp subset file; None: the whole pool. A uid that stands there m times has
            weight m.

    Raises:
        UserError: If the subset is no such file, or none of it is in the pool.
    """

    def __init__(
        self,
        pool: Pool,
        seed: int,
        probe_fraction: float = 0.0,
        probe_max_rows: int = 100_000,
        subset: Path | None = None,
    ) -> None:
        self.pool = pool
        self.seed = seed
        self.probe_fraction = min(probe_fraction, probe_max_rows / max(1, pool.rows))
        self._subset = None if subset is None else UidTable(read_subset(subset))
        self.counts_S = np.array([len(self.rows(s)) for s in range(pool.shards)], dtype=np.int64)
        if subset is not None and self.size == 0:
            raise UserError(f"pool.subset={subset}: none of its uids is in the pool.")

    @classmethod
    def of(cls, pool: Pool, config: Config) -> Base:
        """Return the base of a run."""
        select, subset = config.select, config.pool.subset
        return cls(
            pool,
            config.seed,
            select.probe_fraction,
            select.probe_max_rows,
            None if subset is None else Path(subset),
        )

    @property
    def size(self) -> int:
        """Number of rows in the base."""
        return int(self.counts_S.sum())

    def readable(self, shard: int) -> NDArray[np.int64]:
        """Return the rows of a shard without a known defect: base, probe, outside. Ascending."""
        rows = self.pool.shard_rows(shard)
        return np.setdiff1d(rows, self.pool.defects(shard)[0], assume_unique=True)

    def in_probe(self, rows_N: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Mark the rows that belong to the probe, (N,) bool."""
        return below_fraction(rows_N, self.probe_fraction, self.seed, "probe")

    def outside(self, shard: int) -> NDArray[np.bool_]:
        """Mark the rows of a shard, readable or not, that are not in the subset, (N,) bool."""
        if self._subset is None:
            return np.zeros(len(self.pool.shard_rows(shard)), dtype=bool)
        return self._subset.times(self.pool.shard_uids(shard)) == 0

    def rows(self, shard: int) -> NDArray[np.int64]:
        """Return the rows of a shard that belong to the base. Ascending."""
        readable = self.readable(shard)
        inside = ~self.in_probe(readable)
        if self._subset is not None:
            inside &= ~self.outside(shard)[readable - self.pool.first_row[shard]]
        return readable[inside]

    def weights(self, shard: int) -> NDArray[np.int32]:
        """Return how many times a pass over the base meets each row of `rows`, (n,) int32."""
        rows = self.rows(shard)
        if self._subset is None:
            return np.ones(len(rows), np.int32)
        return self._subset.times(self.pool.shard_uids(shard)[rows - self.pool.first_row[shard]])

    def draw(self, count: int, *purpose: int | str) -> NDArray[np.int64]:
        """Draw rows uniformly from the whole base without replacement. Ascending."""
        everything = np.concatenate([self.rows(s) for s in range(self.pool.shards)])
        return draw(everything, min(count, len(everything)), self.seed, *purpose)
