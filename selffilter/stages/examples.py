"""Which samples say most about a selection, of a pool of any size: pure, a chunk at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selffilter.randomness import below_fraction, hash_rows
from selffilter.selecting.scratch import chunks

Rows = NDArray[np.int64]
Marks = NDArray[np.bool_]
Scores = NDArray[np.float32]

COMPARED_ROWS = 1_000_000
"""Ranks are of about so many rows of the base at most; of a larger one a draw."""


@dataclass(frozen=True)
class Selected:
    """What a round has made of N rows.

    Attributes:
        scores_N: float32, NaN: none.
        confident_N: bool.
        diverse_N: bool.
    """

    scores_N: Scores
    confident_N: Marks
    diverse_N: Marks


class Ranks:
    """The place of a score among those of the base: the share of them that it is better than.

    Equal scores share the middle of their places.

    Args:
        scores_N: (N,) float32.
        rows_n: Rows of the base, ascending.
    """

    def __init__(self, scores_N: Scores, rows_n: Rows) -> None:
        self._scores_N = scores_N
        scores_n = scores_N[rows_n]
        self._sorted_n = np.sort(scores_n[np.isfinite(scores_n)])

    def places(self, rows_k: Rows) -> NDArray[np.float64]:
        """Return the places of some rows, (K,) float64 in [0, 1]; NaN: it has no score."""
        scores_k = self._scores_N[rows_k]
        below_k = np.searchsorted(self._sorted_n, scores_k, "left")
        until_k = np.searchsorted(self._sorted_n, scores_k, "right")
        place_k = (below_k + until_k) / (2.0 * max(1, len(self._sorted_n)))
        return np.where(np.isfinite(scores_k) & (len(self._sorted_n) > 0), place_k, np.nan)


def drawn_base(base_N: Marks, seed: int, most: int = COMPARED_ROWS) -> Rows:
    """Return all rows of the base, or about `most` of them, the same in every round; ascending."""
    size = sum(int(np.count_nonzero(base_N[part])) for part in chunks(len(base_N)))
    taken = []
    for part in chunks(len(base_N)):
        rows_n = np.flatnonzero(base_N[part]) + part.start
        taken.append(rows_n[below_fraction(rows_n, most / max(1, size), seed, "examples")])
    return np.concatenate([np.empty(0, np.int64), *taken])


def find_examples(
    now: Selected,
    before: Selected | None,
    base_N: Marks,
    ranks: Ranks,
    ranks_before: Ranks | None,
    drawn_n: Rows,
    *,
    count: int,
    seed: int,
    round_: int,
) -> dict[str, Rows]:
    """Find the samples of each table.

    Args:
        now: The round.
        before: The round before; None: there is none.
        base_N: What could be selected.
        ranks: Of the round's scores.
        ranks_before: Of those before.
        drawn_n: See `drawn_base`: among these the most disputed are looked for.
        count: How many samples a table has at most.
        seed: Of the draws.
        round_: The round's number: each draws anew.

    Returns:
        Name of a table → its rows, none of them empty: ``highest`` and ``lowest`` (of the base, by
        score, the extreme first), ``newly_kept`` and ``newly_dropped`` (confident in one of the two
        rounds alone; by lot), ``most_disputed`` (whose place has changed most), ``diverse`` (drawn
        into the selection; by lot).
    """

    def by_score(sign: float) -> Callable[[slice], tuple[Rows, NDArray[np.float64]]]:
        def of(part: slice) -> tuple[Rows, NDArray[np.float64]]:
            scores_n = now.scores_N[part]
            rows_n = np.flatnonzero(base_N[part] & np.isfinite(scores_n))
            return rows_n + part.start, sign * scores_n[rows_n].astype(np.float64)

        return of

    def by_lot(
        name: str, marks: Callable[[slice], Marks]
    ) -> Callable[[slice], tuple[Rows, NDArray[np.uint64]]]:
        def of(part: slice) -> tuple[Rows, NDArray[np.uint64]]:
            rows_n = np.flatnonzero(marks(part)) + part.start
            return rows_n, hash_rows(rows_n, seed, "examples", name, round_)

        return of

    rows = len(base_N)
    found = {
        "highest": least(rows, count, by_score(-1.0)),
        "lowest": least(rows, count, by_score(1.0)),
        "diverse": least(rows, count, by_lot("diverse", lambda part: now.diverse_N[part])),
    }
    if before is not None and ranks_before is not None:
        new, old = now.confident_N, before.confident_N
        found["newly_kept"] = least(
            rows, count, by_lot("kept", lambda part: new[part] & ~old[part])
        )
        found["newly_dropped"] = least(
            rows, count, by_lot("dropped", lambda part: old[part] & ~new[part])
        )
        change_n = np.abs(ranks.places(drawn_n) - ranks_before.places(drawn_n))
        known_n = np.isfinite(change_n)
        order = np.argsort(-change_n[known_n], kind="stable")[:count]
        found["most_disputed"] = drawn_n[known_n][order]
    return {name: rows_k for name, rows_k in found.items() if len(rows_k)}


def least(
    rows: int, count: int, keys_of: Callable[[slice], tuple[Rows, NDArray[np.generic]]]
) -> Rows:
    """Return the rows with the smallest keys, the smallest first; ties go by row.

    Args:
        rows: N; keys are made a chunk of them at a time.
        count: How many rows at most.
        keys_of: Gives rows of a chunk, ascending, and their keys.
    """
    best_rows, best_keys = np.empty(0, np.int64), None
    for part in chunks(rows):
        rows_n, keys_n = keys_of(part)
        if best_keys is not None:
            rows_n, keys_n = (
                np.concatenate([best_rows, rows_n]),
                np.concatenate([best_keys, keys_n]),
            )
        if len(keys_n) > count > 0:
            near_n = keys_n <= np.partition(keys_n, count - 1)[count - 1]
            rows_n, keys_n = rows_n[near_n], keys_n[near_n]
        order = np.lexsort((rows_n, keys_n))[:count]
        best_rows, best_keys = rows_n[order], keys_n[order]
    return best_rows
