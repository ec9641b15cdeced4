"""Reading folders of scores, one or several of the same rows, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import pairwise
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
from selffilter.scoring.embeddings.embeddings import table_rows
from selffilter.scoring.embeddings.usable import Unusable
from selffilter.scoring.provenance import pool_record
from selffilter.standalone.record import NAME, Record, differences, read_record
from selffilter.store import read_json
from selffilter.tables import read_table, scores_schema, shard_file

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
    """Score tables of the same rows, joined by row.

    Attributes:
        indexed: Rows of the original pool; those in no table count as not scored.
        rows_N: Every row that stands in a table, ascending.
        uids_N2: Their ids.
        failure_N: uint8; the first reason of several.
        columns: Signal, or LABEL:signal, → float32, NaN where there is none.
        records: Of each folder.
        folders: Where they lie.
    """

    indexed: int
    rows_N: NDArray[np.int64]
    uids_N2: NDArray[np.uint64]
    failure_N: NDArray[np.uint8]
    columns: dict[str, NDArray[np.float32]]
    records: list[Record]
    folders: list[Path] = field(default_factory=list)

    @property
    def source(self) -> Record:
        """Whose rows they are."""
        source: Record = self.records[0]["source"]
        return source

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

    def uids_of(self, rows_n: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return the ids of some of the rows, (n, 2) uint64."""
        return self.uids_N2[np.searchsorted(self.rows_N, rows_n)]


def read_score_tables(folders: Sequence[Path]) -> ScoreTables:
    """Read folders of scores: `selffilter score`'s, `selffilter eliminate`'s, or a run's round.

    A signal that stands in several folders is to be had as LABEL:signal only; see `label_of`.

    Raises:
        UserError: If one is not complete, or they are not of the same rows.
    """
    records = [record_of(folder) for folder in folders]
    for folder, record in zip(folders[1:], records[1:], strict=True):
        if found := differences(records[0]["source"], record["source"]):
            raise UserError(
                f"{folder} and {folders[0]} have scores of different rows: {found[0]}. Only scores "
                "of the same source can be joined."
            )
    tables = [_read(folder, record) for folder, record in zip(folders, records, strict=True)]
    names = [name for record in records for name in record["scorer"]["signals"]]
    rows_N = reduce(_all_rows, (table.rows for table in tables))
    uids_N2 = tables[0].uids
    if rows_N is not tables[0].rows:
        uids_N2 = np.zeros((len(rows_N), 2), np.uint64)
        for table in tables:
            uids_N2[np.searchsorted(rows_N, table.rows)] = table.uids
    failure_N = np.zeros(len(rows_N), np.uint8)
    columns: dict[str, NDArray[np.float32]] = {}
    for folder, record, table in zip(folders, records, tables, strict=True):
        whole = len(table.rows) == len(rows_N)
        place_n = slice(None) if whole else np.searchsorted(rows_N, table.rows)
        other_n = (uids_N2[place_n] != table.uids).any(axis=1)
        if other_n.any():
            row = int(table.rows[other_n][0])
            raise UserError(
                f"{folder} and another of these folders have scores of different rows: row {row} "
                "has another uid. Only scores of the same source can be joined."
            )
        failure_N[place_n] = np.where(failure_N[place_n] == 0, table.failure, failure_N[place_n])
        for name in record["scorer"]["signals"]:
            column_N = table.columns.pop(name)
            if not whole:
                column_N, of_rows = np.full(len(rows_N), np.nan, np.float32), column_N
                column_N[place_n] = of_rows
            named = name if names.count(name) == 1 else f"{label_of(folder)}:{name}"
            columns[named] = column_N
    if len(columns) != len(names):
        label = label_of(folders[-1])
        raise UserError(
            f"two of these folders are called {label} and have the same signal: rename one."
        )
    indexed = records[0]["source"]["rows"]
    return ScoreTables(indexed, rows_N, uids_N2, failure_N, columns, records, list(folders))


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


@dataclass(frozen=True)
class _Table:
    rows: NDArray[np.int64]
    uids: NDArray[np.uint64]
    failure: NDArray[np.uint8]
    columns: dict[str, NDArray[np.float32]]


def _all_rows(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows of either, ascending; the first array itself if that has all."""
    if np.array_equal(a, b):
        return a
    both: NDArray[np.int64] = np.union1d(a, b)
    return a if len(both) == len(a) else both


def _read(folder: Path, record: Record) -> _Table:
    shards, names = range(record["source"]["shards"]), list(record["scorer"]["signals"])
    missing = [shard for shard in shards if not shard_file(folder, shard).exists()]
    if missing:
        raise UserError(
            f"{folder} is not complete: {len(missing):,} of {len(shards):,} shards are not scored "
            f"(the first is {missing[0]:05d}). Let what scores them finish."
        )
    paths = [shard_file(folder, shard) for shard in shards]
    bounds = np.cumsum([0, *map(table_rows, paths)])
    # Filled shard by shard: all tables together would be in memory twice.
    found = _Table(
        np.empty(bounds[-1], np.int64),
        np.empty((bounds[-1], 2), np.uint64),
        np.empty(bounds[-1], np.uint8),
        {name: np.empty(bounds[-1], np.float32) for name in names},
    )
    try:
        for path, (begin, end) in zip(paths, pairwise(bounds), strict=True):
            table = read_table(path, ["row", "uid", *names, "failure"])
            found.rows[begin:end] = table["row"].to_numpy()
            found.uids[begin:end] = uids.from_arrow(table["uid"])
            found.failure[begin:end] = table["failure"].to_numpy()
            for name in names:
                found.columns[name][begin:end] = table[name].to_numpy()
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{folder} has a table that is not of scores: {error}.") from error
    if (np.diff(found.rows) <= 0).any():
        raise UserError(f"{folder}: its rows do not ascend.")
    return found
