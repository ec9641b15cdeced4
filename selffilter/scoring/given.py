"""Scores that somebody else computed, as a column: any pre-trained scorer, or an oracle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from selffilter.errors import UserError
from selffilter.pool import uids
from selffilter.pool.base import Base
from selffilter.pool.index import Pool
from selffilter.pool.reading import PoolDataset, loader_over, padded_requests
from selffilter.pool.row_facts import facts_columns
from selffilter.pool.uid_tables import uid_batches
from selffilter.scoring.table import score_table
from selffilter.tables import FACTS, read_table, shard_file, write_table


class GivenScores:
    """A Parquet table of uid and score.

    Args:
        path: Columns ``uid`` (32 hex digits, or 16 bytes) and ``score`` (a number).

    Raises:
        UserError: If the file is not such a table.
    """

    def __init__(self, path: Path) -> None:
        parts: list[NDArray[np.uint64]] = [np.empty((0, 2), np.uint64)]
        scores: list[NDArray[np.float32]] = [np.empty(0, np.float32)]
        try:
            for uids_n2, batch in uid_batches(path, ["score"]):
                parts.append(uids_n2)
                scores.append(batch["score"].cast(pa.float32()).to_numpy(zero_copy_only=False))
        except (OSError, ValueError, pa.ArrowException) as error:
            raise UserError(
                f"score.given_scores={path} is no Parquet of uid (32 hex digits) and score: {error}"
            ) from error
        uids_M2 = np.concatenate(parts)
        self._path, self._listed, self._first = path, len(uids_M2), uids.to_hex(uids_M2[:1])
        self._known = uids.UidTable(uids_M2)
        scores.append(np.array([np.nan], np.float32))
        self._scores = np.concatenate(scores)  # place -1: no score

    def of(self, uids_N2: NDArray[np.uint64]) -> NDArray[np.float32]:
        """Return the score of each uid, (N,) float32; NaN where the table has none."""
        return self._scores[self._known.places(uids_N2)]

    def account(self, pool: Pool) -> str:
        """Say how many of a pool's rows have a score; nothing where all that are usable do.

        Raises:
            UserError: If the table names none of them.
        """
        rows = known = scored = 0
        for shard in range(pool.shards):
            usable_n = np.ones(int(np.diff(pool.first_row[shard : shard + 2])[0]), np.bool_)
            usable_n[pool.defects(shard)[0] - pool.first_row[shard]] = False
            uids_n2 = pool.shard_uids(shard)[usable_n]
            rows += len(uids_n2)
            place_n = self._known.places(uids_n2)
            known += int(np.count_nonzero(place_n >= 0))
            scored += int(np.count_nonzero(np.isfinite(self._scores[place_n])))
        named = f"score.given_scores={self._path}"
        if rows and not known:
            theirs = self._first[0] if self._first else "none"
            ours = uids.to_hex(pool.uids_of(np.zeros(1, np.int64)))[0]
            raise UserError(
                f"{named}: none of its {self._listed:,} uids is in the pool, which has {rows:,} "
                f"usable rows. Its first uid is {theirs}, the pool's {ours}: is it of this pool?"
            )
        if scored == rows:
            return ""
        return (
            f"{named}: {scored:,} of the {rows:,} usable rows of the pool have a score; the other "
            f"{rows - scored:,} are never kept for one."
        )


@dataclass(frozen=True)
class LookedAt:
    """What is known of a shard's readable rows without a model.

    Attributes:
        shard: Its number.
        failures_n: The verdict on each of the rows, (n,) uint8.
        facts: Name in `tables.FACTS` → its value for each, (n,).
    """

    shard: int
    failures_n: NDArray[np.uint8]
    facts: dict[str, NDArray[Any]]


def write_given_scores(
    given: GivenScores | None,
    base: Base,
    verdicts: Iterable[LookedAt],
    folder: Path,
    signal: str,
    round_: int,
) -> None:
    """Write the score tables of shards from given scores, or without any; no model is asked.

    Args:
        given: The scores; None: no row gets one.
        base: Which rows are readable, and which are the probe.
        verdicts: Of each shard.
        folder: Where the files go.
        signal: Name of the column.
        round_: What `scored_round` says.
    """
    for looked_at in verdicts:
        shard, failures = looked_at.shard, looked_at.failures_n
        rows = base.readable(shard)
        scores = given.of(base.pool.uids_of(rows)) if given else np.full(len(rows), np.nan)
        columns = {signal: np.where(failures == 0, scores, np.nan).astype(np.float32)}
        table = score_table(base, shard, rows, columns, failures, round_, facts=looked_at.facts)
        write_table(shard_file(folder, shard), table)


def decode_verdicts(
    dataset: PoolDataset, base: Base, shards: list[int], batch_size: int, workers: int
) -> Iterator[LookedAt]:
    """Decode shards for the verdicts alone, so that controls leave out what the loop leaves out."""
    requests = {shard: padded_requests(base.readable(shard), batch_size) for shard in shards}
    batches = iter(loader_over(dataset, [r for s in shards for r in requests[s]], workers))
    for shard in shards:
        failures = [np.empty(0, np.uint8)]
        facts = [np.empty((0, len(dataset.facts)), np.int64)]
        for _ in requests[shard]:
            batch = next(batches)
            real_B = batch["row"] >= 0
            failures.append(batch["failure"][real_B].numpy())
            facts.append(batch["facts"][real_B].numpy())
        columns = facts_columns(dataset.facts, np.concatenate(facts))
        yield LookedAt(shard, np.concatenate(failures), columns)


def carried_verdicts(base: Base, shards: list[int], before: Path) -> Iterator[LookedAt]:
    """Take what is known of shards' readable rows from the score tables of the round before."""
    for shard in shards:
        table = read_table(shard_file(before, shard))
        place_n = base.readable(shard) - base.pool.first_row[shard]
        facts = {
            name: table[name].to_numpy()[place_n]
            for name in FACTS.names
            if name in table.column_names
        }
        yield LookedAt(shard, table["failure"].to_numpy()[place_n], facts)
