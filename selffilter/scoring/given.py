"""Scores that somebody else computed, as a column: any pre-trained scorer, or an oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from selffilter.errors import UserError
from selffilter.pool import uids
from selffilter.pool.base import Base
from selffilter.scoring.table import score_table
from selffilter.tables import read_table, shard_file, write_table


class GivenScores:
    """A Parquet table of uid and score.

    Args:
        path: Columns ``uid`` (32 hex digits, or 16 bytes) and ``score`` (a number).

    Raises:
        UserError: If the file is not such a table.
    """

    def __init__(self, path: Path) -> None:
        try:
            table = read_table(path, ["uid", "score"])
            column = table["uid"]
            is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
            uids_N2 = (
                uids.from_hex(column.to_pylist())
                if is_text
                else uids.from_arrow(column.cast(uids.UID_TYPE))
            )
            scores_N = table["score"].cast(pa.float32()).to_numpy()
        except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
            raise UserError(
                f"score.given_scores={path} is no Parquet of uid (32 hex digits) and score: {error}"
            ) from error
        self._uids, self._scores = uids.to_arrow(uids_N2), scores_N

    def of(self, uids_N2: NDArray[np.uint64]) -> NDArray[np.float32]:
        """Return the score of each uid, (N,) float32; NaN where the table has none."""
        place = pc.index_in(uids.to_arrow(uids_N2), value_set=self._uids)
        found = np.full(len(uids_N2), np.nan, dtype=np.float32)
        known_N = place.is_valid().to_numpy(zero_copy_only=False)
        found[known_N] = self._scores[place.drop_null().to_numpy()]
        return found


def write_given_scores(
    given: GivenScores | None, base: Base, shards: list[int], folder: Path, signal: str, round_: int
) -> None:
    """Write the score tables of shards from given scores, or without any; no model is asked."""
    for shard in shards:
        rows = base.readable(shard)
        scores = (
            np.full(len(rows), np.nan, np.float32)
            if given is None
            else given.of(base.pool.uids_of(rows))
        )
        failures = np.zeros(len(rows), np.uint8)
        table = score_table(base, shard, rows, {signal: scores}, failures, round_)
        write_table(shard_file(folder, shard), table)
