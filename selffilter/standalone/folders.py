"""Reading folders of scores, one or several of the same rows, as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from selffilter.config import nearest, read_run_config
from selffilter.errors import UserError
from selffilter.pool import uids
from selffilter.pool.failures import Failure
from selffilter.pool.index import Pool
from selffilter.pool.record import pool_record
from selffilter.scoring.embeddings.unusable import Unusable
from selffilter.selecting.scratch import Scratch
from selffilter.standalone.record import NAME, Record, differences, read_record
from selffilter.store import read_json
from selffilter.tables import read_table, scores_schema, shard_file
from selffilter.threads import several

_REASONS = {int(r): r.name for kind in (Unusable, Failure) for r in kind}


def reasons_of(failure_N: NDArray[np.uint8]) -> dict[str, int]:
    """Return how many rows are unusable for each reason that occurs, of a pool or of embeddings."""
    codes, counts = np.unique(failure_N[failure_N != 0], return_counts=True)
    return {
        _REASONS.get(int(code), f"reason_{code}"): int(count)
        for code, count in zip(codes, counts, strict=True)
    }


@dataclass(frozen=True)
class ScoreTables:
    """Score tables of the same rows, joined: a row's place in an array is its number.

    Attributes:
        indexed: Rows of the original pool; those in no table count as not scored.
        there_N: bool, whether a row stands in a table.
        failure_N: uint8; the first reason of several.
        held_out_N: bool, of a run: the probe, and what is not in ``pool.subset``.
        columns: Signal, or LABEL:signal, → float32, NaN where there is none.
        records: Of each folder.
        folders: Where they lie.
        first_row: (S+1,) int64: shard s has rows from ``first_row[s]`` to below the next.
    """

    indexed: int
    there_N: NDArray[np.bool_]
    failure_N: NDArray[np.uint8]
    held_out_N: NDArray[np.bool_]
    columns: dict[str, NDArray[np.float32]]
    records: list[Record]
    folders: list[Path]
    first_row: NDArray[np.int64]

    @property
    def source(self) -> Record:
        """Whose rows they are."""
        source: Record = self.records[0]["source"]
        return source

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return len(self.first_row) - 1

    @property
    def usable_N(self) -> NDArray[np.bool_]:
        """Which rows have no failure, (N,) bool."""
        usable: NDArray[np.bool_] = self.there_N & (self.failure_N == 0)
        return usable

    def column(self, name: str) -> NDArray[np.float32]:
        """Return a column of scores.

        Raises:
            UserError: If there is none of that name, or it has no score at all.
        """
        if name not in self.columns:
            known = sorted(self.columns)
            hint = nearest(name, known)
            raise UserError(f"there is no column {name!r}; there are {', '.join(known)}.{hint}")
        if not np.isfinite(self.columns[name]).any():
            raise UserError(f"{name} has not a single score: every row of it is NaN.")
        return self.columns[name]

    def shard_uids(self, shard: int) -> NDArray[np.uint64]:
        """Return the ids of a shard's rows, (n, 2) uint64; 0 for rows that stand in no table."""
        first, end = self.first_row[shard : shard + 2]
        if len(self.folders) == 1 and self.there_N[first:end].all():
            return uids.from_arrow(read_table(shard_file(self.folders[0], shard), ["uid"])["uid"])
        found = np.zeros((end - first, 2), np.uint64)
        for folder in self.folders:
            table = read_table(shard_file(folder, shard), ["row", "uid"])
            found[table["row"].to_numpy() - first] = uids.from_arrow(table["uid"])
        return found

    def uids_of(self, rows_n: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return the ids of some of the rows, (n, 2) uint64."""
        return uids.gather(rows_n, self.first_row, self.shard_uids)


def read_score_tables(folders: Sequence[Path], scratch: Scratch | None = None) -> ScoreTables:
    """Read folders of scores: `selffilter score`'s, `selffilter eliminate`'s, or a run's round.

    A signal that stands in several folders is to be had as LABEL:signal only; see `label_of`.
    Ids are not held: they are read where they are asked for.

    Args:
        folders: Where they lie.
        scratch: Where arrays of a row each come from: 3 bytes a row, and 4 a column.

    Raises:
        UserError: If one is not complete, or they are not of the same rows.
    """
    scratch = scratch or Scratch()
    records = [record_of(folder) for folder in folders]
    for folder, record in zip(folders[1:], records[1:], strict=True):
        if found := differences(records[0]["source"], record["source"]):
            raise UserError(
                f"{folder} and {folders[0]} have scores of different rows: {found[0]}. Only scores "
                "of the same source can be joined."
            )
    source = records[0]["source"]
    names = _names(folders, records)
    shards, indexed = range(source["shards"]), source["rows"]
    for folder in folders:
        _refuse_incomplete(folder, shards)
    tables = ScoreTables(
        indexed,
        scratch.zeros(indexed, np.bool_),
        scratch.zeros(indexed, np.uint8),
        scratch.zeros(indexed, np.bool_),
        {
            name: scratch.full(indexed, np.nan, np.float32)
            for of_folder in names
            for name in of_folder.values()
        },
        records,
        list(folders),
        np.append(np.zeros(len(shards), np.int64), indexed),
    )
    spans = list(several(lambda shard: _read_shard(tables, names, shard), shards))
    end = 0
    for shard, (first, last) in enumerate(spans):
        if first < last and first < end:
            raise UserError(f"{folders[0]}: its rows do not ascend.")
        tables.first_row[shard] = end
        end = max(end, last)
    return tables


def _names(folders: Sequence[Path], records: Sequence[Record]) -> list[dict[str, str]]:
    """Return, of each folder, what its signals are called: alone, or by their folder."""
    every = [name for record in records for name in record["scorer"]["signals"]]
    named = [
        {
            name: name if every.count(name) == 1 else f"{label_of(folder)}:{name}"
            for name in record["scorer"]["signals"]
        }
        for folder, record in zip(folders, records, strict=True)
    ]
    if len({name for of_folder in named for name in of_folder.values()}) != len(every):
        raise UserError(
            f"two of these folders are called {label_of(folders[-1])} and have the same signal: "
            "rename one."
        )
    return named


def _refuse_incomplete(folder: Path, shards: range) -> None:
    missing = [shard for shard in shards if not shard_file(folder, shard).exists()]
    if missing:
        raise UserError(
            f"{folder} is not complete: {len(missing):,} of {len(shards):,} shards are not scored "
            f"(the first is {missing[0]:05d}). Let what scores them finish."
        )


def _read_shard(
    tables: ScoreTables, names: Sequence[Mapping[str, str]], shard: int
) -> tuple[int, int]:
    """Read a shard of every folder into its place; return the rows it spans."""
    first, end = tables.indexed, 0
    joined = len(tables.folders) > 1
    uids_before: pa.Table | None = None
    for folder, named in zip(tables.folders, names, strict=True):
        path = shard_file(folder, shard)
        try:
            wanted = ["row", "failure", "probe", "outside", *named, *(["uid"] if joined else [])]
            table = read_table(path, wanted)
            rows_n: NDArray[np.int64] = table["row"].to_numpy()
            failure_n: NDArray[np.uint8] = table["failure"].to_numpy().astype(np.uint8)
            held_out_n = table["probe"].to_numpy() | table["outside"].to_numpy()
            scores = {name: table[name].to_numpy() for name in named}
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            raise UserError(f"{path} is not a table of scores: {error}.") from error
        if not len(rows_n):
            continue
        if (np.diff(rows_n) <= 0).any() or rows_n[0] < 0 or rows_n[-1] >= tables.indexed:
            raise UserError(f"{folder}: its rows do not ascend, or are not all of the pool.")
        if joined:
            _refuse_other_rows(folder, uids_before, table)
            uids_before = table.select(["row", "uid"])
        place = slice(rows_n[0], rows_n[-1] + 1)  # far quicker than by number
        at: slice | NDArray[np.int64] = (
            place if len(rows_n) == rows_n[-1] + 1 - rows_n[0] else rows_n
        )
        tables.there_N[at] = True
        before_n = tables.failure_N[at]
        tables.failure_N[at] = np.where(before_n == 0, failure_n, before_n)
        tables.held_out_N[at] |= held_out_n
        for name, score_n in scores.items():
            tables.columns[named[name]][at] = score_n
        first, end = min(first, int(rows_n[0])), max(end, int(rows_n[-1]) + 1)
    return first, end


def _refuse_other_rows(folder: Path, before: pa.Table | None, now: pa.Table) -> None:
    """Check that rows which stand in two folders have the same uid there."""
    if before is None:
        return
    rows, at_before, at_now = np.intersect1d(
        before["row"].to_numpy(), now["row"].to_numpy(), assume_unique=True, return_indices=True
    )
    other_n = uids.from_arrow(before["uid"])[at_before] != uids.from_arrow(now["uid"])[at_now]
    if other_n.any():
        row = int(rows[other_n.any(axis=1)][0])
        raise UserError(
            f"{folder} and another of these folders have scores of different rows: row {row} "
            "has another uid. Only scores of the same source can be joined."
        )


def label_of(folder: Path) -> str:
    """Return what tells a folder of scores from others: its name, or RUN-RRR of a run's round."""
    run, round_ = _run_and_round(folder)
    return folder.name if run is None else f"{run.name}-{round_}"


def _run_and_round(folder: Path) -> tuple[Path | None, str]:
    """Return the run directory that a folder of scores belongs to, if any, and the round's name."""
    round_ = folder.absolute().parent
    run = round_.parent.parent
    of_run = folder.name == "scores" and round_.parent.name == "rounds"
    is_there = of_run and (run / "environment.json").exists()
    return (run, round_.name) if is_there else (None, "")


def record_of(folder: Path) -> Record:
    """Return the record of a folder of scores; that of a run's round is made of the run's own.

    Raises:
        UserError: If it is neither.
    """
    run, round_ = _run_and_round(folder)
    if run is None or (folder / NAME).exists():
        return read_record(folder)
    if not (folder / "summary.json").exists():
        raise UserError(f"{folder} is not finished: let the run score first.")
    config, environment = read_run_config(run / "config.yaml"), read_json(run / "environment.json")
    pinned = environment["pool"]
    pool = Pool(Path(pinned["index_dir"]), pinned["version"])
    columns = read_table(shard_file(folder, 0)).column_names
    summary: dict[str, Any] = read_json(folder / "summary.json")
    scorer = {
        "signals": [name for name in columns if name not in scores_schema([]).names],
        "run": config.name,
        "round": int(round_),
        "scores_from": summary.get("scores_from"),
    }
    return {"source": pool_record(pool), "scorer": scorer, "made_with": environment}
