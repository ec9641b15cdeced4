"""Some rows of a run's pool, drawn once, followed through all of its rounds.

Of a pool of any size so many rows are held, as arrays; the tables are read a shard at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from selffilter.progress import Bar
from selffilter.randomness import below_fraction
from selffilter.reporting.fates import DROPPED, NOT_BASE, read_fates
from selffilter.rundir.on_disk import RunOnDisk
from selffilter.selecting.combine import quantiles
from selffilter.selecting.on_disk import removed_rows
from selffilter.tables import read_table, shard_file
from selffilter.threads import several

Rows = NDArray[np.int64]
ShowBar = Callable[[str, int], AbstractContextManager[Bar]]

MOST_ROWS = 200_000


@dataclass(frozen=True)
class Drawn:
    """Rows that are followed; S of them, over the R rounds that have selected.

    Attributes:
        rounds: Their numbers, (R,), ascending.
        rows_S: int64, ascending.
        score_RS: float32, of the signal that rows are selected by; NaN: none.
        ranked_RS: float32, what rows are ranked by: the score, or the merit.
        fate_RS: int8, see `fates`.
        of: How many rows the pool has. More than S: a draw, the same in every round.
    """

    rounds: list[int]
    rows_S: Rows
    score_RS: NDArray[np.float32]
    ranked_RS: NDArray[np.float32]
    fate_RS: NDArray[np.int8]
    of: int

    @property
    def sampled(self) -> bool:
        """Whether these are not all of the pool's rows."""
        return len(self.rows_S) < self.of

    @property
    def base_S(self) -> NDArray[np.bool_]:
        """Rows of the last round's base."""
        base: NDArray[np.bool_] = self.fate_RS[-1] != NOT_BASE
        return base

    @property
    def kept_S(self) -> NDArray[np.bool_]:
        """Rows that the last round selects."""
        kept: NDArray[np.bool_] = self.fate_RS[-1] > DROPPED
        return kept

    def quantile_S(self, round_place: int) -> NDArray[np.float64]:
        """Return where a row stands among the ranked rows of the base, 0 worst to 1 best; NaN."""
        of_base_S = self.fate_RS[round_place] != NOT_BASE
        return quantiles(np.where(of_base_S, self.ranked_RS[round_place], np.nan))


def draw_rows(run: RunOnDisk, bar: ShowBar, most: int = MOST_ROWS) -> Drawn:
    """Follow rows of a run that has selected at least once.

    Args:
        run: The run.
        bar: Shows progress over so many shards.
        most: About how many rows are followed; a hash of the row says which.
    """
    pool, rounds = run.pool, run.done("select")
    fraction = most / max(1, pool.rows)
    drawn_n = [
        rows[below_fraction(rows, fraction, run.config.seed, "report")]
        for rows in map(pool.shard_rows, range(pool.shards))
    ]
    parts: list[_Columns] = []
    with bar("read the rounds", len(rounds) * pool.shards) as shown:
        for round_ in rounds:
            found = []
            for columns in several(_Follow(run, round_), enumerate(drawn_n)):
                found.append(columns)
                shown.advance(1)
            score, ranked, fate = zip(*found, strict=True)
            parts.append((np.concatenate(score), np.concatenate(ranked), np.concatenate(fate)))
    score_RS, ranked_RS, fate_RS = (np.stack(column) for column in zip(*parts, strict=True))
    return Drawn(rounds, np.concatenate(drawn_n), score_RS, ranked_RS, fate_RS, pool.rows)


_Columns = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int8]]


class _Follow:
    """Reads one round's score, rank and fate of the drawn rows of a shard."""

    def __init__(self, run: RunOnDisk, round_: int) -> None:
        self._run = run
        self._signal = run.store.summary(round_, "score")["signal"]
        self._scores, self._selection = (run.store.stage(round_, s) for s in ("score", "select"))
        self._merit_N = run.merit(round_)
        self._removed = removed_rows(self._selection)

    def __call__(self, job: tuple[int, Rows]) -> _Columns:
        shard, rows_s = job
        if not len(rows_s):
            none = np.empty(0, np.float32)
            return none, none, np.empty(0, np.int8)
        local = pa.array(rows_s - self._run.pool.first_row[shard])
        names = [self._signal, "failure", "probe", "outside"]
        table = read_table(shard_file(self._scores, shard), names).take(local)
        score_s: NDArray[np.float32] = table[self._signal].to_numpy()
        apart_s = (table["failure"].to_numpy() != 0) | table["probe"].to_numpy()
        apart_s |= table["outside"].to_numpy() | np.isin(rows_s, self._removed)
        fate_s = np.where(apart_s, np.int8(NOT_BASE), np.int8(DROPPED))
        ranked_s = score_s if self._merit_N is None else self._merit_N[rows_s]
        row_k, chosen_k = read_fates(self._selection, shard)
        if len(row_k):
            place_s = np.minimum(np.searchsorted(row_k, rows_s), len(row_k) - 1)
            fate_s = np.where(row_k[place_s] == rows_s, chosen_k[place_s], fate_s)
        return score_s, ranked_s, fate_s
