"""Reads what a run has left about some rows, round by round."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from selffilter.asking.belonging import groups_of
from selffilter.asking.ranking import BetterThan
from selffilter.asking.removed import removed_among
from selffilter.asking.standing import CutLine, Removed, Standing
from selffilter.planning import round_steps
from selffilter.pool import uids
from selffilter.pool.base import Base
from selffilter.pool.failures import Failure
from selffilter.progress import Bar, NoBar
from selffilter.rundir.on_disk import RunOnDisk, number
from selffilter.rundir.ranked import RankedScores
from selffilter.tables import counts_file, read_table, shard_file
from selffilter.threads import several
from selffilter.training.round_plan import round_plan

Rows = NDArray[np.int64]
ShowBar = Callable[[str, int], AbstractContextManager[Bar]]


class Asked:
    """Some rows of a run, asked about.

    Args:
        run: The run.
        rows_K: (K,) int64.
        bar: Shows progress over so many shards.
    """

    def __init__(
        self, run: RunOnDisk, rows_K: Rows, bar: ShowBar = lambda title, total: nullcontext(NoBar())
    ) -> None:
        self._run, self._rows_K, self._bar = run, rows_K, bar
        self._shard_K: Rows = run.pool.shard_of(rows_K)
        self._schedule = round_steps(run.config)

    def standings(self) -> Iterator[list[Standing]]:
        """Yield, for each round that has begun, the standing of each row."""
        before: list[dict[str, Any]] = [{} for _ in self._rows_K]
        for round_ in self._run.store.rounds():
            facts: list[dict[str, Any]] = [{"round": round_} for _ in self._rows_K]
            self._trained(round_, before, facts)
            before = [{} for _ in self._rows_K]
            if self._run.store.is_done(round_, "score"):
                self._scored(round_, facts)
                if self._run.store.is_done(round_, "select"):
                    before = self._selected(round_, facts)
                self._ranked(round_, facts)
            yield [Standing(**fact) for fact in facts]

    # --- training -----------------------------------------------------------------------------

    @cached_property
    def _base(self) -> Base:
        return Base.of(self._run.pool, self._run.config)

    def _trained(
        self, round_: int, before: list[dict[str, Any]], facts: list[dict[str, Any]]
    ) -> None:
        """Say how many batches of a round held each row."""
        store = self._run.store
        if not store.is_done(round_, "train"):
            return
        weight_K = self._weights(round_, before)
        times: list[int | None] = [None if weight else 0 for weight in weight_K.tolist()]
        # Without it (selections of the very first versions) there is no plan.
        has_plan = round_ == 0 or counts_file(store.stage(round_ - 1, "select")).exists()
        if has_plan and weight_K.any():
            plan = round_plan(self._run.config, store, self._base, round_)
            steps = self._schedule[round_].steps
            times = [*plan.times(self._rows_K, self._shard_K, weight_K, steps).tolist()]
        for fact, weight, count in zip(facts, weight_K.tolist(), times, strict=True):
            fact |= {"trained": True, "may_train_on": weight > 0, "times": count}

    def _weights(self, round_: int, before: list[dict[str, Any]]) -> Rows:
        """Return how often a pass of a round's training meets each row, (K,) int64."""
        if round_:
            return np.array([fact.get("weight", 0) for fact in before], dtype=np.int64)
        weight_K = np.zeros(len(self._rows_K), np.int64)
        for shard in np.unique(self._shard_K).tolist():
            rows, weights = self._base.weighted_rows(shard)
            for k in np.flatnonzero(self._shard_K == shard).tolist():
                place = int(np.searchsorted(rows, self._rows_K[k]))
                if place < len(rows) and rows[place] == self._rows_K[k]:
                    weight_K[k] = weights[place]
        return weight_K

    # --- scores -------------------------------------------------------------------------------

    def _scored(self, round_: int, facts: list[dict[str, Any]]) -> None:
        """Say what stands in the score table."""
        summary = self._run.store.summary(round_, "score")
        merit_N = self._run.merit(round_)
        merit_K = None if merit_N is None else merit_N[self._rows_K]
        for k, row in self._rows_of(self._run.store.stage(round_, "score")):
            score = number(row[summary["signal"]])
            facts[k] |= {
                "scored": True,
                "scores_from": summary["scores_from"],
                "signal": summary["signal"],
                "failure": _reason(row["failure"]),
                "probe": row["probe"],
                "outside": row["outside"],
                "score": score,
                "scored_round": None if score is None else row["scored_round"],
                "by_merit": merit_K is not None,
                "merit": None if merit_K is None else number(merit_K[k]),
                "columns": row,
            }

    def _rows_of(self, folder: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the place of each row, and what a score table says of it."""
        for shard in np.unique(self._shard_K).tolist():
            table = read_table(shard_file(folder, shard))
            here = np.flatnonzero(self._shard_K == shard)
            local = self._rows_K[here] - self._run.pool.first_row[shard]
            yield from zip(here.tolist(), table.take(pa.array(local)).to_pylist(), strict=True)

    def _ranked(self, round_: int, facts: list[dict[str, Any]]) -> None:
        """Count the rows of the scored base that are better than each row."""
        asked = [fact["merit"] if fact["by_merit"] else fact["score"] for fact in facts]
        asked_K = np.array([np.nan if x is None else x for x in asked], np.float32)
        if np.isfinite(asked_K).any():
            better, shards = BetterThan(asked_K), self._run.pool.shards
            with self._bar(f"round {round_}  ranks", shards) as bar:
                for ranked_n in several(RankedScores(self._run, round_).of_base, range(shards)):
                    better.count(ranked_n)
                    bar.advance(1)
            for fact, rank in zip(facts, better.ranks_K.tolist(), strict=True):
                fact |= {"rank": None if rank < 0 else rank, "scored_base": better.scored}
        for fact in facts:
            fact.pop("columns")

    # --- selection ----------------------------------------------------------------------------

    def _selected(self, round_: int, facts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Say what was selected; returns share and weight of each row."""
        store, select = self._run.store, self._run.config.select
        folder, summary = store.stage(round_, "select"), store.summary(round_, "select")
        chosen = self._chosen(folder)
        removed = self._removed(folder)
        told = [fact["columns"] for fact in facts]
        groups = groups_of(self._run.pool, folder, self._rows_K, self._shard_K, told)
        for fact, group, row, share in zip(
            facts, groups, self._rows_K.tolist(), chosen, strict=True
        ):
            fact |= {
                "selected": True,
                "threshold": number(summary.get("threshold")),
                "rule": select.confident,
                "balanced_by": select.balance,
                "removed": removed.get(row),
                "groups": group,
                "alarms": tuple(alarm["sentence"] for alarm in summary.get("alarms", [])),
                "cuts": tuple(
                    CutLine(
                        cut["signal"],
                        number(cut["lowest_kept"]),
                        number(fact["columns"].get(cut["signal"])),
                    )
                    for cut in summary.get("cuts", [])
                ),
                **share,
            }
        return chosen

    def _chosen(self, folder: Path) -> list[dict[str, Any]]:
        """Return share and weight of each row in a selection; nothing of those that are not."""
        chosen: list[dict[str, Any]] = [{} for _ in self._rows_K]
        for shard in np.unique(self._shard_K).tolist():
            table = read_table(shard_file(folder, shard), ["row", "share", "weight"])
            here = np.flatnonzero(self._shard_K == shard)
            rows = pa.array(self._rows_K[here])
            for row in table.filter(pc.is_in(table["row"], rows)).to_pylist():
                for k in here[self._rows_K[here] == row["row"]].tolist():
                    chosen[k] = {"share": row["share"], "weight": row["weight"]}
        return chosen

    def _removed(self, folder: Path) -> dict[int, Removed]:
        """Return those of the rows that were removed before selecting."""
        found = removed_among(folder, self._rows_K)
        for row, removed in found.items():
            if removed.of_row is not None:
                uids_12 = self._run.pool.uids_of(np.array([removed.of_row]))
                found[row] = replace(removed, of_uid=uids.to_hex(uids_12)[0])
        return found


def _reason(code: int) -> str | None:
    """Name a `Failure`; a number that is none stays a number."""
    if code == Failure.none:
        return None
    known = {failure.value: failure.name for failure in Failure}
    return known.get(code, f"failure {code}")
