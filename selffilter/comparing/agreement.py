"""How far runs agree on what to keep: by how many of them, within arms and between."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
        chosen_by_K: Uids that exactly k + 1 of the K sides keep for their score, (K,) int64; of
            sides that keep none for it, what they keep.
        of_pool: Rows of the pool that all runs share; None: they are of several, or none is a run.
        by_arms: Each two arms, and each with itself: see `Between`.
    """

    chosen_by_K: NDArray[np.int64]
    of_pool: int | None
    by_arms: list[Between]

    def record(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "chosen_by": self.chosen_by_K.tolist(),
            "rows_of_pool": self.of_pool,
            "between_arms": [
                {"a": x.a, "b": x.b, **asdict(x.others), "same_seed": asdict(x.same_seed)}
                for x in self.by_arms
            ],
        }


@dataclass(frozen=True)
class Means:
    """Means over pairs of sides.

    Attributes:
        pairs: How many there are.
        jaccard: Jaccard index of what is kept for its score; None: of no pairs.
        jaccard_by_lot: What draws by lot of the same sizes, from the rows that may be selected,
            would have; None: the rows are not known, or several pools'.
        spearman: Rank correlation of the scores in the last common round; None: there is none.
    """

    pairs: int
    jaccard: float | None
    jaccard_by_lot: float | None
    spearman: float | None


@dataclass(frozen=True)
class Between:
    """Runs of two arms, or of one, in pairs.

    Attributes:
        a: Number of the one arm.
        b: Of the other; the same one: pairs of its seeds.
        others: Pairs of different seeds, as they are within an arm; subsets have none.
        same_seed: Pairs of one seed: they may have first weights and order in common.
    """

    a: int
    b: int
    others: Means
    same_seed: Means


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
    counted = chosen_by([side.chosen for side in sides])
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


def chosen_by(subsets: Sequence[Subset]) -> Subset:
    """Return the uids that any of some subsets has; the weight says how many of them have it."""
    return multiset.add([once(subset) for subset in subsets])


def by_all_and_by_none(arm: Sequence[Subset], other: Sequence[Subset]) -> Subset:
    """Return the uids that all subsets of one arm have, and none of the other's."""
    return multiset.minus([multiset.intersect(list(map(once, arm))), *map(once, other)])


def jaccard_by_lot(one: int, two: int, of: int) -> float:
    """Return the Jaccard index of draws of one and two rows, of so many: k m / (k + m - k m).

    Draws of the shares k and m have the share k m in common, by expectation.
    """
    if not of or not one + two:
        return math.nan
    k, m = min(1.0, one / of), min(1.0, two / of)
    return k * m / (k + m - k * m)


def _indexed(side: Side) -> int:
    assert side.run is not None and side.round is not None
    return int(side.run.store.summary(side.round, "select")["account"]["indexed"])


_Base = tuple[int, int]
"""Rows that may be selected, and rows that are held out as the probe."""


def _bases(sides: Sequence[Side]) -> dict[str, _Base]:
    """Return letter → base; nothing where sides are of several pools, or none is a run.

    A subset is taken for one of the largest of these bases.
    """
    if len({side.run.rows_version for side in sides if side.run is not None}) != 1:
        return {}
    known = {}
    for side in sides:
        if side.run is not None and side.round is not None:
            summary = side.run.store.summary(side.round, "select")
            known[side.letter] = (int(summary["base"]), int(summary["account"]["probe"]))
    return {side.letter: known.get(side.letter, max(known.values())) for side in sides}


def _between(
    arms: Sequence[Arm],
    sides: Sequence[Side],
    jaccard_KK: NDArray[np.float64],
    spearman: dict[tuple[str, str], float],
) -> list[Between]:
    means = _Averages(sides, jaccard_KK, spearman)
    found = []
    for a, b in combinations_with_replacement(arms, 2):
        if a is b:
            pairs = list(combinations(a.sides, 2))
        else:
            pairs = [(one, two) for one in a.sides for two in b.sides]
        if pairs:
            same = [pair for pair in pairs if _of_one_seed(*pair)]
            others = [pair for pair in pairs if not _of_one_seed(*pair)]
            found.append(Between(a.number, b.number, means.over(others), means.over(same)))
    return found


def _of_one_seed(one: Side, two: Side) -> bool:
    if one.run is None or two.run is None:
        return False
    return one.run.config.seed == two.run.config.seed


class _Averages:
    """Averages what is known of pairs of sides."""

    def __init__(
        self,
        sides: Sequence[Side],
        jaccard_KK: NDArray[np.float64],
        spearman: dict[tuple[str, str], float],
    ) -> None:
        self._place = {side.letter: k for k, side in enumerate(sides)}
        self._jaccard_KK, self._spearman = jaccard_KK, spearman
        self._bases = _bases(sides)

    def over(self, pairs: Sequence[tuple[Side, Side]]) -> Means:
        letters = [tuple(sorted((one.letter, two.letter))) for one, two in pairs]
        return Means(
            len(pairs),
            _mean([self._jaccard_KK[self._place[x], self._place[y]] for x, y in letters]),
            _mean([self._by_lot(one, two) for one, two in pairs]) if self._bases else None,
            _mean([self._spearman[x, y] for x, y in letters if (x, y) in self._spearman]),
        )

    def _by_lot(self, one: Side, two: Side) -> float:
        # The larger base: of two settings over one pool the smaller lies in it. Other seeds hold
        # out other rows, so their bases have less in common than either has: chance is over both.
        other_probe = one.run and two.run and not _of_one_seed(one, two)
        bases = (self._bases[one.letter], self._bases[two.letter])
        of = max(sum(base) if other_probe else base[0] for base in bases)
        return jaccard_by_lot(len(one.chosen), len(two.chosen), of)


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else None
