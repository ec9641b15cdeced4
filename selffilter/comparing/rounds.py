"""Two runs in one of their rounds: what both keep, and how alike they score."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from selffilter.comparing.sides import confident_uids, shards_of, subset_at
from selffilter.errors import UserError
from selffilter.pool import uids
from selffilter.pool.multiset import Subset, hash_uids, intersect
from selffilter.pool.uids import UidTable
from selffilter.randomness import below_fraction
from selffilter.rundir.on_disk import RunOnDisk, number
from selffilter.selecting.drift import Moved, moved, rank_correlation
from selffilter.tables import read_table, shard_file
from selffilter.threads import several

Scores = NDArray[np.float32]
SAMPLED_ROWS = 2_000_000
"""Scores of about so many rows are held side by side, at most; of a larger pool a draw."""


@dataclass(frozen=True)
class Alike:
    """Two runs A and B after one round.

    Attributes:
        round: The round.
        confident: Rows that both keep for their score, only A keeps (`dropped`) or only B (`new`).
        selected: The same of all that they select.
        scores_a: float32, what A ranks rows by: of those that both rank, or of a draw of them.
        scores_b: What B ranks them by.
        ranked_by: What that is of each, "score" or "merit".
        of: How many rows both rank; None: not counted, `scores_a` is a draw by uid.
        largest_difference: Of two scores of one row, of all rows; None: not looked at, or one of
            the two is no score.
        thresholds: Of each the lowest confident one; None: nothing is confident.
    """

    round: int
    confident: Moved
    selected: Moved
    scores_a: Scores
    scores_b: Scores
    ranked_by: tuple[str, str]
    of: int | None
    largest_difference: float | None
    thresholds: tuple[float | None, float | None]

    @property
    def spearman(self) -> float | None:
        """Spearman's rank correlation of the two; None: fewer than two rows, or all alike."""
        rows = max(1, len(self.scores_a))
        return number(rank_correlation(self.scores_a, self.scores_b, 0, exact_rows=rows).value)

    def record(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "round": self.round,
            "confident": _moved_record(self.confident),
            "selected": _moved_record(self.selected),
            "spearman": self.spearman,
            "spearman_rows": len(self.scores_a),
            "ranked_by": list(self.ranked_by),
            "ranked_by_both": self.of,
            "largest_score_difference": self.largest_difference,
        }


def common_rounds(a: RunOnDisk, b: RunOnDisk) -> list[int]:
    """Return the rounds in which both have selected."""
    return sorted(set(a.done("select")) & set(b.done("select")))


def compare_round(
    a: RunOnDisk,
    b: RunOnDisk,
    round_: int,
    on_each: Callable[[], None] = lambda: None,
    sampled_rows: int = SAMPLED_ROWS,
) -> Alike:
    """Compare two runs in a round: row by row over one version of a pool, else by uid.

    Args:
        a: A run that has selected in that round.
        b: Another.
        round_: The round.
        on_each: Called after each shard.
        sampled_rows: About so many rows' scores are held, at most.

    Raises:
        UserError: If the two are of one version, and have other tables than its shards.
    """
    if a.rows_version == b.rows_version:
        return _by_row(a, b, round_, on_each, sampled_rows)
    return _by_uid(a, b, round_, on_each, sampled_rows)


# --- over the same rows ---------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """What is found out about a shard."""

    confident: Moved
    selected: Moved
    scores_a: Scores
    scores_b: Scores
    of: int
    largest_difference: float


def _by_row(
    a: RunOnDisk, b: RunOnDisk, round_: int, on_each: Callable[[], None], sampled_rows: int
) -> Alike:
    shards = shards_of(a, round_)
    if shards != shards_of(b, round_):
        raise UserError(
            f"{a.store.root} has tables of {shards} shards in round {round_}, {b.store.root} of "
            f"{shards_of(b, round_)}, though both are of one pool: one of them is not whole."
        )
    fraction = sampled_rows / max(1, _indexed(a, round_))

    def look(shard: int) -> _Part:
        (rows_a, confident_a), (rows_b, confident_b) = (_selected(x, round_, shard) for x in (a, b))
        (row_n, score_a), (_, score_b) = (_scores(x, round_, shard) for x in (a, b))
        both = np.isfinite(score_a) & np.isfinite(score_b)
        largest = float(np.abs(score_a[both] - score_b[both]).max(initial=0.0))
        drawn = both & below_fraction(row_n, fraction, 0, "compare")
        return _Part(
            moved(confident_a, confident_b),
            moved(rows_a, rows_b),
            score_a[drawn],
            score_b[drawn],
            int(both.sum()),
            largest,
        )

    parts = list(_counting(several(look, range(shards)), on_each))
    of = sum(part.of for part in parts)
    ranked_by = (_ranked_by(a, round_), _ranked_by(b, round_))
    has_merit = "merit" in ranked_by
    return Alike(
        round_,
        _sum([part.confident for part in parts]),
        _sum([part.selected for part in parts]),
        _joined([part.scores_a for part in parts]),
        _joined([part.scores_b for part in parts]),
        ranked_by,
        of,
        max(part.largest_difference for part in parts) if of and not has_merit else None,
        (_threshold(a, round_), _threshold(b, round_)),
    )


def _selected(
    run: RunOnDisk, round_: int, shard: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the selected rows of a shard, and the confident ones."""
    table = read_table(shard_file(run.store.stage(round_, "select"), shard), ["row", "share"])
    rows = table["row"].to_numpy()
    return rows, rows[pc.equal(table["share"].cast(pa.string()), "confident").to_numpy()]


def _scores(run: RunOnDisk, round_: int, shard: int) -> tuple[NDArray[np.int64], Scores]:
    """Return the rows of a shard, and what they are ranked by."""
    signal = run.store.summary(round_, "score")["signal"]
    table = read_table(shard_file(run.store.stage(round_, "score"), shard), ["row", signal])
    rows, merit_N = table["row"].to_numpy(), run.merit(round_)
    return rows, table[signal].to_numpy() if merit_N is None else merit_N[rows]


# --- over different pools -------------------------------------------------------------------


def _by_uid(
    a: RunOnDisk, b: RunOnDisk, round_: int, on_each: Callable[[], None], sampled_rows: int
) -> Alike:
    fraction = sampled_rows / max(1, _indexed(a, round_), _indexed(b, round_))
    (uids_a, score_a), (uids_b, score_b) = (
        _scores_by_uid(x, round_, fraction, on_each) for x in (a, b)
    )
    place_b = UidTable(uids_a).places(uids_b)
    both = place_b >= 0
    return Alike(
        round_,
        _moved_uids(confident_uids(a, round_), confident_uids(b, round_)),
        _moved_uids(*(_selected_uids(x, round_) for x in (a, b))),
        score_a[place_b[both]],
        score_b[both],
        (_ranked_by(a, round_), _ranked_by(b, round_)),
        None if fraction < 1 else int(both.sum()),
        None,
        (_threshold(a, round_), _threshold(b, round_)),
    )


def _scores_by_uid(
    run: RunOnDisk, round_: int, fraction: float, on_each: Callable[[], None]
) -> tuple[NDArray[np.uint64], Scores]:
    """Return uids, and what they are ranked by, of all ranked rows or a draw by their uid."""
    signal = run.store.summary(round_, "score")["signal"]
    folder, merit_N = run.store.stage(round_, "score"), run.merit(round_)

    def read(shard: int) -> tuple[NDArray[np.uint64], Scores]:
        table = read_table(shard_file(folder, shard), ["row", "uid", signal])
        uids_n2, score_n = uids.from_arrow(table["uid"]), table[signal].to_numpy()
        if merit_N is not None:
            score_n = merit_N[table["row"].to_numpy()]
        use = np.isfinite(score_n)
        if fraction < 1:
            use &= hash_uids(uids_n2, 0) < np.uint64(int(fraction * 2.0**64))
        return uids_n2[use], score_n[use]

    parts = list(_counting(several(read, range(shards_of(run, round_))), on_each))
    found = np.concatenate([np.empty((0, 2), np.uint64), *(part[0] for part in parts)])
    return found, _joined([part[1] for part in parts])


def _selected_uids(run: RunOnDisk, round_: int) -> Subset:
    found = subset_at(run.store.root, round_)
    return Subset(found.uids_N2, np.ones(len(found), np.int64))


def _moved_uids(a: Subset, b: Subset) -> Moved:
    both = len(intersect([a, b]))
    return Moved(both, len(b) - both, len(a) - both)


# --- small parts ----------------------------------------------------------------------------


def _threshold(run: RunOnDisk, round_: int) -> float | None:
    return number(run.store.summary(round_, "select").get("threshold"))


def _ranked_by(run: RunOnDisk, round_: int) -> str:
    return "score" if run.merit(round_) is None else "merit"


def _indexed(run: RunOnDisk, round_: int) -> int:
    return int(run.store.summary(round_, "select")["account"]["indexed"])


def _moved_record(found: Moved) -> dict[str, Any]:
    return {
        "both": found.kept,
        "only_a": found.dropped,
        "only_b": found.new,
        "jaccard": number(found.jaccard),
    }


def _sum(parts: list[Moved]) -> Moved:
    return Moved(
        sum(part.kept for part in parts),
        sum(part.new for part in parts),
        sum(part.dropped for part in parts),
    )


def _joined(parts: list[Scores]) -> Scores:
    return np.concatenate([np.empty(0, np.float32), *parts])


def _counting(found: Iterator[Any], on_each: Callable[[], None]) -> Iterator[Any]:
    for one in found:
        yield one
        on_each()
