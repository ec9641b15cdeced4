"""What is compared: runs and subsets, each with what it keeps as uids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from selffilter.errors import UserError
from selffilter.pool import uids
from selffilter.pool.multiset import Subset, subset_of
from selffilter.pool.subset import read_subset_file
from selffilter.rundir.materialising import selection_of_run
from selffilter.rundir.numbers import Row
from selffilter.rundir.on_disk import RunOnDisk
from selffilter.selecting.on_disk import read_shard

_MOST = 26


@dataclass(frozen=True)
class Side:
    """A run or a subset.

    Attributes:
        letter: A, B, C, … in the order of the command.
        path: Where it lies.
        run: The run; None: a subset file.
        round: Of a run, the round whose selection is compared.
        kept: Its uids with their weights; of a run those of that selection.
        round_asked: The round that was asked for, beyond which nothing of a run counts; None: all.
    """

    letter: str
    path: Path
    run: RunOnDisk | None
    round: int | None
    kept: Subset
    round_asked: int | None = None

    @property
    def name(self) -> str:
        """What a person calls it."""
        return self.path.resolve().name

    @property
    def label(self) -> str:
        """Letter and name."""
        return f"{self.letter} {self.name}"

    @cached_property
    def chosen(self) -> Subset:
        """What was kept for its score: the confident rows of a run; all of it where none are."""
        if self.run is None or self.round is None:
            return self.kept
        confident = confident_uids(self.run, self.round)
        return confident if len(confident) else self.kept

    @property
    def keeps_by_score(self) -> bool:
        """Whether it is a run with confident rows."""
        return self.chosen is not self.kept

    @cached_property
    def trained(self) -> tuple[int, int | None] | None:
        """The last round that a run has trained, of those that count, and the samples then seen.

        It may be one more than has selected: see ``rounds.final_selection``.
        """
        rounds = [] if self.run is None else [r for r in self.run.done("train") if self.counts(r)]
        if self.run is None or not rounds:
            return None
        return rounds[-1], self.run.store.summary(rounds[-1], "train").get("samples_seen")

    @property
    def whole(self) -> bool:
        """Whether no training of the run is left out by the round that was asked for."""
        return self.run is None or all(map(self.counts, self.run.done("train")))

    def counts(self, round_: int) -> bool:
        """Whether the numbers of a round are among those that are compared."""
        return self.round_asked is None or round_ <= self.round_asked

    def last_numbers(self, rows: Iterable[Row]) -> dict[tuple[str | None, str], Row]:
        """Return the last of a run's numbers that count: (set, metric) → its row.

        Args:
            rows: All of the run's, in their order: see `round_numbers`.
        """
        return {(row["set"], row["metric"]): row for row in rows if self.counts(row["round"])}


def open_sides(paths: Sequence[Path], round_: int | None = None) -> list[Side]:
    """Open what is compared.

    Args:
        paths: Run directories and subset files.
        round_: Whose selection, of the runs; None: the last of each.

    Raises:
        UserError: If one is neither, a run has no such selection, or they are not 2 to 26.
    """
    if not 2 <= len(paths) <= _MOST:
        raise UserError(f"compare takes 2 to {_MOST} runs or subsets, not {len(paths)}.")
    refuse_round_of_files(paths, round_)
    return [_open(chr(ord("A") + k), path, round_) for k, path in enumerate(paths)]


def refuse_round_of_files(paths: Sequence[Path], round_: int | None) -> None:
    """Check that a round is asked of a run.

    Raises:
        UserError: If all are files.
    """
    if round_ is not None and not any(path.is_dir() for path in paths):
        raise UserError(f"--round {round_}: {paths[0]} is no run directory.")


def subset_at(path: Path, round_: int | None = None) -> Subset:
    """Read a subset file, or what a round of a run has selected (the last, if None).

    Raises:
        UserError: If there is none.
    """
    if not path.is_dir():
        return read_subset_file(path)
    found = selection_of_run(path, round_)
    return subset_of(found.uids_N2, found.weights_N)


def confident_uids(run: RunOnDisk, round_: int) -> Subset:
    """Read the confident rows of a round, each with weight 1."""
    folder, parts = run.store.stage(round_, "select"), [np.empty((0, 2), np.uint64)]
    for shard in range(shards_of(run, round_)):
        table, confident_k = read_shard(folder, shard, ["uid"])
        parts.append(uids.from_arrow(table["uid"])[confident_k])
    return subset_of(np.concatenate(parts))


def shards_of(run: RunOnDisk, round_: int) -> int:
    """Return how many shards a selected round has tables of; the pool need not be there."""
    folder = run.store.stage(round_, "select")
    return sum(path.stem.isdecimal() for path in folder.glob("*.parquet"))


def _open(letter: str, path: Path, round_: int | None) -> Side:
    if not path.is_dir():
        return Side(letter, path, None, None, read_subset_file(path))
    kept = subset_at(path, round_)
    run = RunOnDisk.open(path)
    compared = run.done("select")[-1] if round_ is None else round_
    return Side(letter, path, run, compared, kept, round_)
