"""Which rows may be trained on: base = indexed − probe − known failures, or a subset of that.

The probe is a seeded part of the pool that is scored but never trained on; what the model gives
to rows it has consumed, compared with the probe, tells memorising from generalising. With
``pool.subset`` the base holds only the rows whose uid stands in a DataComp subset file; the rows
outside it are still scored, so that two runs on two halves of a pool can judge each other's half.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selffilter.config import Config
from selffilter.errors import UserError
from selffilter.pool.index import Pool
from selffilter.pool.sources import source_name
from selffilter.pool.subset import read_subset
from selffilter.pool.uids import UidTable
from selffilter.randomness import below_fraction, draw, shuffled

_ROWS_AT_ONCE = 1 << 16
"""What is computed of so many rows stays in the processor's cache."""


class Base:
    """The rows of a pool that training may use.

    Args:
        pool: The pool.
        seed: The run's seed.
        probe_fraction: Share of the indexed rows that goes to the probe.
        probe_max_rows: The probe is made smaller to hold about this many rows at most.
        subset: A DataComp subset file; None: the whole pool. A uid that stands there m times has
            weight m.
        source_weights: Name of a source → how many times a pass meets each of its rows, on top of
            that; once where it is not named.

    Attributes:
        pool: The pool.
        seed: The run's seed.
        probe_fraction: Share of the indexed rows in the probe.
        counts_S: Rows of the base in each shard, (S,) int64.
        counts_PS: Those of weight above p, (P, S) int64; P is the largest weight.

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
        source_weights: Mapping[str, int] | None = None,
    ) -> None:
        self.pool = pool
        self.seed = seed
        self.probe_fraction = min(probe_fraction, probe_max_rows / max(1, pool.rows))
        self._subset = None if subset is None else UidTable(read_subset(subset))
        asked = source_weights or {}
        self._weights = [asked.get(source, 1) for source in pool.sources]
        self._probe_rows = self._find_probe()
        self.counts_PS = self._count()
        self.counts_S: NDArray[np.int64] = self.counts_PS[0]
        if subset is not None and self.size == 0:
            raise UserError(f"pool.subset={subset}: none of its uids is in the pool.")

    @classmethod
    def of(cls, pool: Pool, config: Config) -> Base:
        """Return the base of a run."""
        select, subset = config.select, config.pool.subset
        named = zip(config.pool.shards, config.pool.source_weights, strict=False)
        return cls(
            pool,
            config.seed,
            select.probe_fraction,
            select.probe_max_rows,
            None if subset is None else Path(subset),
            {source_name(spec): weight for spec, weight in named},
        )

    @property
    def size(self) -> int:
        """Number of rows in the base."""
        return int(self.counts_S.sum())

    def readable(self, shard: int) -> NDArray[np.int64]:
        """Return the rows of a shard without a known defect: base, probe, outside. Ascending."""
        return self._rows_without(shard, self.pool.defects(shard)[0])

    def in_probe(self, rows_N: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Mark the rows that belong to the probe, (N,) bool."""
        return below_fraction(rows_N, self.probe_fraction, self.seed, "probe")

    def probe_sample(self, count: int) -> NDArray[np.int64]:
        """Draw readable rows of the probe, at most so many, in random order."""
        readable = self._probe_rows[~np.isin(self._probe_rows, self.pool.defect_rows)]
        return shuffled(readable, self.seed, "probe sample")[:count]

    def outside(self, shard: int) -> NDArray[np.bool_]:
        """Mark the rows of a shard, readable or not, that are not in the subset, (N,) bool."""
        if self._subset is None:
            return np.zeros(len(self.pool.shard_rows(shard)), dtype=bool)
        return self._subset.times(self.pool.shard_uids(shard)) == 0

    def rows(self, shard: int) -> NDArray[np.int64]:
        """Return the rows of a shard that belong to the base. Ascending."""
        return self.weighted_rows(shard)[0]

    def weights(self, shard: int) -> NDArray[np.int32]:
        """Return how many times a pass over the base meets each row of `rows`, (n,) int32."""
        return self.weighted_rows(shard)[1]

    def weighted_rows(self, shard: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Return the rows of a shard that belong to the base, and how often a pass meets each.

        Returns:
            Rows, ascending, (n,) int64, and weights of at least 1, (n,) int32: times in the subset
            × weight of the source.
        """
        first = self.pool.first_row[shard : shard + 2]
        low, high = np.searchsorted(self._probe_rows, first)
        rows = self._rows_without(shard, self.pool.defects(shard)[0], self._probe_rows[low:high])
        weight = self.source_weight(shard)
        if self._subset is None:
            return rows, np.full(len(rows), weight, np.int32)
        times = self._subset.times(self.pool.shard_uids(shard)[rows - first[0]])
        inside = times > 0
        return rows[inside], times[inside] * np.int32(weight)

    def source_weight(self, shard: int) -> int:
        """Return how many times a pass meets each row of a shard, for its source."""
        return self._weights[self.pool.source_of(shard)]

    def draw(self, count: int, *purpose: int | str) -> NDArray[np.int64]:
        """Draw rows uniformly from the whole base without replacement. Ascending."""
        everything = np.concatenate([self.rows(s) for s in range(self.pool.shards)])
        return draw(everything, min(count, len(everything)), self.seed, *purpose)

    def _rows_without(self, shard: int, *left_out: NDArray[np.int64]) -> NDArray[np.int64]:
        first, last = self.pool.first_row[shard : shard + 2]
        stays = np.ones(last - first, dtype=bool)
        for rows in left_out:
            stays[rows - first] = False
        return first + np.flatnonzero(stays)

    def _find_probe(self) -> NDArray[np.int64]:
        """Return the rows of the probe, ascending: few, found once in one go over all rows."""
        if self.probe_fraction <= 0:
            return np.empty(0, np.int64)
        found = []
        for start in range(0, self.pool.rows, _ROWS_AT_ONCE):
            rows = np.arange(start, min(start + _ROWS_AT_ONCE, self.pool.rows), dtype=np.int64)
            found.append(rows[self.in_probe(rows)])
        return np.concatenate([np.empty(0, np.int64), *found])

    def _count(self) -> NDArray[np.int64]:
        shards = self.pool.shards
        if self._subset is not None:
            histograms = [np.bincount(self.weights(s), minlength=2) for s in range(shards)]
            top = max((len(histogram) for histogram in histograms), default=2) - 1
            above = [[h[p + 1 :].sum() for h in histograms] for p in range(top)]
            return np.array(above, dtype=np.int64).reshape(top, shards)
        defects, probe = self.pool.defect_rows, self._probe_rows
        if len(defects):
            nearest = np.minimum(np.searchsorted(defects, probe), len(defects) - 1)
            probe = probe[defects[nearest] != probe]
        counts_S = np.diff(self.pool.first_row)
        for left_out in (defects, probe):
            counts_S -= np.diff(np.searchsorted(left_out, self.pool.first_row))
        weight_S = np.array([self.source_weight(s) for s in range(shards)], dtype=np.int64)
        return np.where(weight_S > np.arange(weight_S.max(initial=1))[:, None], counts_S, 0)
