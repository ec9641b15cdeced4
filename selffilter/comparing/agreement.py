"""How far runs agree on what to keep: by how many of them, within arms and between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selffilter.comparing.arms import Arm
from selffilter.comparing.sides import Side
from selffilter.pool import multiset
from selffilter.pool.multiset import Subset


@dataclass(frozen=True)
class Agreement:
    """What is kept by how many.

    Attributes:
        kept_by_K: Uids that exactly k + 1 of the K sides keep, (K,) int64.
        of_pool: Rows of the pool that all runs share; None: they are of several, or none is a run.
        by_arms: Each two arms, and each with itself: see `Between`.
    """

    kept_by_K: NDArray[np.int64]
    of_pool: int | None
    by_arms: list[Between]

    def record(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "kept_by": self.kept_by_K.tolist(),
            "rows_of_pool": self.of_pool,
            "between_arms": [
                {"a": x.a, "b": x.b, "pairs": x.pairs, "jaccard": x.jaccard, "spearman": x.spearman}
                for x in self.by_arms
            ],
        }


@dataclass(frozen=True)
class Between:
    """Runs of two arms, or of one, in pairs.

    Attributes:
        a: Number of the one arm.
        b: Of the other; the same one: pairs of its seeds.
        pairs: How many pairs of sides there are; at least one.
        jaccard: Mean Jaccard index of what is kept for its score.
        spearman: Mean rank correlation of the scores in the last common round; None: there is none.
    """

    a: int
    b: int
    pairs: int
    jaccard: float
    spearman: float | None


def agreement(
    arms: Sequence[Arm],
    sides: Sequence[Side],
    jaccard_KK: NDArray[np.float64],
    spearman: dict[tuple[str, str], float],
) -> Agreement:
    """Count and average.

    Args:
        arms: All arms of the sides.
        sides: What is compared.
        jaccard_KK: Of what they keep for its score, in their order.
        spearman: Letters of two runs, in their order → rank correlation of their scores.
    """
    counted = kept_by([side.chosen for side in sides])
    versions = {side.run.rows_version for side in sides if side.run is not None}
    indexed = [_indexed(side) for side in sides if side.run is not None]
    return Agreement(
        np.bincount(counted.weights_N, minlength=len(sides) + 1)[1:].astype(np.int64),
        indexed[0] if len(versions) == 1 else None,
        _between(arms, sides, jaccard_KK, spearman),
    )


def once(subset: Subset) -> Subset:
    """Return the same uids, each with weight 1."""
    return Subset(subset.uids_N2, np.ones(len(subset), np.int64))


def kept_by(subsets: Sequence[Subset]) -> Subset:
    """Return the uids that any of some subsets has; the weight says how many of them have it."""
    return multiset.add([once(subset) for subset in subsets])


def by_all_and_by_none(arm: Sequence[Subset], other: Sequence[Subset]) -> Subset:
    """Return the uids that all subsets of one arm have, and none of the other's."""
    return multiset.minus([multiset.intersect(list(map(once, arm))), *map(once, other)])


def _indexed(side: Side) -> int:
    assert side.run is not None and side.round is not None
    return int(side.run.store.summary(side.round, "select")["account"]["indexed"])


def _between(
    arms: Sequence[Arm],
    sides: Sequence[Side],
    jaccard_KK: NDArray[np.float64],
    spearman: dict[tuple[str, str], float],
) -> list[Between]:
    place = {side.letter: k for k, side in enumerate(sides)}
    found = []
    for a, b in combinations_with_replacement(arms, 2):
        if a is b:
            pairs = list(combinations(a.sides, 2))
        else:
            pairs = [(one, two) for one in a.sides for two in b.sides]
        if not pairs:
            continue
        letters = [tuple(sorted((one.letter, two.letter))) for one, two in pairs]
        known = [spearman[x, y] for x, y in letters if (x, y) in spearman]
        found.append(
            Between(
                a.number,
                b.number,
                len(pairs),
                float(np.mean([jaccard_KK[place[x], place[y]] for x, y in letters])),
                float(np.mean(known)) if known else None,
            )
        )
    return found
