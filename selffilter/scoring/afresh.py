"""Which rows a pass looks at, and where the others' scores come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from selffilter.pool.base import Base
from selffilter.randomness import below_fraction
from selffilter.tables import read_table, shard_file

NEVER = -1
"""What `scored_round` says of a row that no pass has looked at."""


@dataclass(frozen=True)
class Afresh:
    """Every readable row, or a part of them.

    Attributes:
        base: Which rows are readable, and which are the probe: these are looked at always.
        seed: The run's.
        round: The round; each draws its own part.
        fraction: Of the pool that is looked at.
        consumed: Rows that this round trained on, ascending: a row of these that has been scored
            before keeps its score. None: all are scored again.
        before: The score tables of the round before; None: there is none.
    """

    base: Base
    seed: int = 0
    round: int = 0
    fraction: float = 1.0
    consumed: NDArray[np.int64] | None = None
    before: Path | None = None

    def rows(self, shard: int) -> NDArray[np.int64]:
        """Return the rows of a shard to look at, ascending."""
        rows = self.base.readable(shard)
        looks = below_fraction(rows, self.fraction, self.seed, "score afresh", self.round)
        if self.consumed is not None and self.before is not None:
            scored = read_table(shard_file(self.before, shard), ["scored_round"])["scored_round"]
            never = scored.to_numpy()[rows - self.base.pool.first_row[shard]] == NEVER
            looks = looks & (~_among(rows, self.consumed) | never)
        return rows[looks | self.base.in_probe(rows)]

    def earlier(self, shard: int) -> pa.Table | None:
        """Return the table from which rows that are not looked at have their scores."""
        if self.before is None or (self.consumed is None and self.fraction >= 1):
            return None
        return read_table(shard_file(self.before, shard))


def _among(rows: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark the rows that are among others, both ascending."""
    if not len(rows):
        return np.zeros(0, bool)
    first, last = np.searchsorted(others, [rows[0], rows[-1] + 1])
    return np.isin(rows, others[first:last], assume_unique=True)
