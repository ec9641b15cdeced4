"""Which rows may be trained on: base = indexed − probe − known failures.

The probe is a seeded part of the pool that is scored but never trained on; what the model gives
to rows it has consumed, compared with the probe, tells memorising from generalising.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from selffilter.pool.index import Pool
from selffilter.randomness import below_fraction, draw


class Base:
    """The rows of a pool that training may use.

    Args:
        pool: The pool.
        seed: The run's seed.
        probe_fraction: Share of the indexed rows that goes to the probe.
        probe_max_rows: The probe is made smaller to hold about this many rows at most.
    """

    def __init__(
        self, pool: Pool, seed: int, probe_fraction: float = 0.0, probe_max_rows: int = 100_000
    ) -> None:
        self.pool = pool
        self.seed = seed
        self.probe_fraction = min(probe_fraction, probe_max_rows / max(1, pool.rows))
        self.counts_S = np.array([len(self.rows(s)) for s in range(pool.shards)], dtype=np.int64)

    @property
    def size(self) -> int:
        """Number of rows in the base."""
        return int(self.counts_S.sum())

    def readable(self, shard: int) -> NDArray[np.int64]:
        """Return the rows of a shard without a known defect: base and probe. Ascending."""
        rows = self.pool.shard_rows(shard)
        return np.setdiff1d(rows, self.pool.defects(shard)[0], assume_unique=True)

    def in_probe(self, rows_N: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Mark the rows that belong to the probe, (N,) bool."""
        return below_fraction(rows_N, self.probe_fraction, self.seed, "probe")

    def rows(self, shard: int) -> NDArray[np.int64]:
        """Return the rows of a shard that belong to the base. Ascending."""
        readable = self.readable(shard)
        return readable[~self.in_probe(readable)]

    def draw(self, count: int, *purpose: int | str) -> NDArray[np.int64]:
        """Draw rows uniformly from the whole base without replacement. Ascending."""
        everything = np.concatenate([self.rows(s) for s in range(self.pool.shards)])
        return draw(everything, min(count, len(everything)), self.seed, *purpose)
