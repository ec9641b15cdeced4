"""What has become of every indexed row of a run's pool: nothing vanishes, and this adds it up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selffilter.errors import UserError
from selffilter.pool import uids
from selffilter.pool.failures import Failure
from selffilter.pool.index import Pool
from selffilter.rundir.on_disk import RunOnDisk
from selffilter.tables import read_table, shard_file

STATES = ("scored", "carried", "probe", "outside", "not_scored")
"""What may become of a usable row: scored by this round's model, or by an earlier one's; held out
as the probe, or outside of ``pool.subset`` (both are scored, and never trained on); or without a
score: no model scores in this run, or the given scores lack it."""


@dataclass
class Account:
    """Where the rows of a source, or of all, are.

    Attributes:
        indexed: Rows in the index.
        states: Usable rows by `STATES`.
        failed: Others by their reason.
        wrong: Rows that the score table does not account for, by what is wrong.
    """

    indexed: int = 0
    states: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)

    @property
    def adds_up(self) -> bool:
        """Whether every row is in exactly one place, and in none that is wrong."""
        accounted = self.states.total() + self.failed.total()
        return not self.wrong and accounted == self.indexed

    def merge(self, other: Account) -> None:
        """Add another one."""
        self.indexed += other.indexed
        self.states += other.states
        self.failed += other.failed
        self.wrong += other.wrong

    def record(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "indexed": self.indexed,
            **{state: self.states[state] for state in STATES},
            "failed": self.failed.total(),
            "failed_by_reason": dict(self.failed),
            "wrong": dict(self.wrong),
            "adds_up": self.adds_up,
        }


@dataclass(frozen=True)
class RunScores:
    """The pool of a run and its finished score tables.

    Attributes:
        pool: The version that the run is pinned to.
        folders: Round → folder of its score table.
        signals: Round → name of the score's column.
        has_model: Round → whether every usable row must have a score.
    """

    pool: Pool
    folders: dict[int, Path]
    signals: dict[int, str]
    has_model: dict[int, bool]

    @classmethod
    def of(cls, run_dir: Path) -> RunScores:
        """Open a run.

        Raises:
            UserError: If there is none, or no round of it is scored yet.
        """
        run = RunOnDisk.open(run_dir)
        store, done = run.store, run.done("score")
        if not done:
            raise UserError(f"{run_dir}: no round is scored yet; selffilter status {run_dir}.")
        summaries = {round_: store.summary(round_, "score") for round_ in done}
        return cls(
            run.pool,
            {round_: store.stage(round_, "score") for round_ in done},
            {round_: summary["signal"] for round_, summary in summaries.items()},
            {r: s["scores_from"] in ("model", "carried") for r, s in summaries.items()},
        )

    def accounts(self, round_: int, on_each: Callable[[], None] = lambda: None) -> list[Account]:
        """Add up a round's score table.

        Args:
            round_: One of `folders`.
            on_each: Called after each shard.

        Returns:
            One account for each of `Pool.sources`.
        """
        found = [Account() for _ in self.pool.sources]
        for shard in range(self.pool.shards):
            found[self.pool.source_of(shard)].merge(self._shard(round_, shard))
            on_each()
        return found

    def failures(self, round_: int) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.uint8]]]:
        """Yield each shard with its rows and their `Failure`."""
        for shard in range(self.pool.shards):
            path = shard_file(self.folders[round_], shard)
            if path.exists():
                table = read_table(path, ["row", "failure"])
                yield shard, table["row"].to_numpy(), table["failure"].to_numpy()

    def _shard(self, round_: int, shard: int) -> Account:
        rows, signal = self.pool.shard_rows(shard), self.signals[round_]
        account = Account(indexed=len(rows))
        path = shard_file(self.folders[round_], shard)
        if not path.exists():
            account.wrong["no_table"] += len(rows)
            return account
        names = ["row", "uid", signal, "failure", "probe", "outside", "scored_round"]
        table = read_table(path, names)
        if not np.array_equal(table["row"].to_numpy(), rows):
            account.wrong["other_rows"] += len(rows)
            return account
        if not np.array_equal(uids.from_arrow(table["uid"]), self.pool.shard_uids(shard)):
            account.wrong["other_uids"] += len(rows)
            return account
        failure_N, score_N = table["failure"].to_numpy(), table[signal].to_numpy()
        probe_N, outside_N = (table[name].to_numpy() for name in ("probe", "outside"))
        has_score_N = ~np.isnan(score_N)
        earlier_N = table["scored_round"].to_numpy() < round_
        usable_N = failure_N == Failure.none
        rest_N = usable_N & ~probe_N & ~outside_N
        known_N = np.isin(failure_N, [f.value for f in Failure])
        masks = {
            "probe": usable_N & probe_N,
            "outside": usable_N & outside_N & ~probe_N,
            "scored": rest_N & has_score_N & ~earlier_N,
            "carried": rest_N & has_score_N & earlier_N,
            "not_scored": rest_N & ~has_score_N,
        }
        account.states += Counter({state: int(mask.sum()) for state, mask in masks.items()})
        for failure in Failure:
            if failure != Failure.none:
                account.failed[failure.name] += int((failure_N == failure).sum())
        account.failed += Counter()  # leaves out what is 0
        account.wrong["reason_unknown"] = int((~known_N).sum())
        account.wrong["failed_and_scored"] = int((~usable_N & has_score_N).sum())
        if self.has_model[round_]:
            account.wrong["usable_and_not_scored"] = int((usable_N & ~has_score_N).sum())
        account.wrong += Counter()
        return account
