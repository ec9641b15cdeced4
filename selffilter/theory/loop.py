"""Self-filtering in the linear model: train, score, select, mix, again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from selffilter.theory.filtering import fit, keep_top, score_pool
from selffilter.theory.model import Array, Mask, Pool
from selffilter.theory.solution import LinearClip


@dataclass(frozen=True)
class LoopSettings:
    """How the loop selects.

    Attributes:
        keep_fraction: confident share of the pool, (0, 1].
        diverse_share: share of a round's rows drawn uniformly from the whole pool, [0, 1); drawn
            anew each round. Rows that are confident already are not counted twice, so the
            effective share is smaller.
        rounds: re-selections after the first training on everything, at least 1.
        signal: one of `filtering.SIGNALS`.
        cross_fit: two learners on fixed halves; each one's pairs are chosen by the other, so that
            no pair is ever scored by a model that was trained on it. The student of a round is
            trained on the union.
    """

    keep_fraction: float = 0.4
    diverse_share: float = 0.2
    rounds: int = 5
    signal: str = "inner product"
    cross_fit: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that describe no loop."""
        if not 0 < self.keep_fraction <= 1:
            raise ValueError(f"keep_fraction={self.keep_fraction} must be in (0, 1]")
        if not 0 <= self.diverse_share < 1:
            raise ValueError(
                f"diverse_share={self.diverse_share} must be in [0, 1); 1 would be no filter at all"
            )
        if self.rounds < 1:
            raise ValueError(f"rounds={self.rounds}: give at least one re-selection")


@dataclass(frozen=True)
class Round:
    """What one round did.

    Attributes:
        learner: the model trained in this round.
        precision: share of clean pairs among the confident ones; nan in round 0.
        selected: share of the pool that was trained on.
    """

    learner: LinearClip
    precision: float
    selected: float


def self_filter(
    pool: Pool, settings: LoopSettings, seed: int = 0, teacher: LinearClip | None = None
) -> list[Round]:
    """Run the loop.

    Args:
        pool: the data; every round sees the same pairs.
        settings: how to select.
        seed: of the diverse draws.
        teacher: scores the first selection instead of a model trained on the whole pool.

    Returns:
        Round 0 (trained on everything, or the given teacher) and one entry a re-selection.
    """
    rng = np.random.default_rng([pool.seed, seed, 1])
    clean_n = np.concatenate([pairs.clean_n for pairs in pool.chunks()])
    halves = [np.arange(pool.n) % 2 == side for side in (0, 1)]
    everything_n = np.ones(pool.n, dtype=bool)
    first = teacher or fit(pool)
    rounds = [Round(first, float("nan"), 1.0)]
    train_n = everything_n
    for index in range(settings.rounds):
        given = first if teacher is not None and index == 0 else None
        if settings.cross_fit:
            scores_n = _cross_scores(pool, train_n, halves, settings.signal, given)
            confident_n = np.zeros(pool.n, dtype=bool)
            for half_n in halves:  # the two scorers' scales differ: cut each half by itself
                confident_n[half_n] = keep_top(scores_n[half_n], settings.keep_fraction)
        else:
            scores_n = score_pool(pool, rounds[-1].learner, settings.signal)
            confident_n = keep_top(scores_n, settings.keep_fraction)
        train_n = confident_n | _diverse(confident_n, settings.diverse_share, rng)
        precision = float(clean_n[confident_n].mean())
        rounds.append(Round(fit(pool, train_n), precision, float(train_n.mean())))
    return rounds


def _cross_scores(
    pool: Pool, train_n: Mask, halves: list[Mask], signal: str, given: LinearClip | None
) -> Array:
    """Score each half by the model trained on the selected rows of the other half, (n,)."""
    scores_n = np.empty(pool.n)
    for own_n, other_n in (halves, halves[::-1]):
        scorer = given or fit(pool, train_n & other_n)
        scores_n[own_n] = score_pool(pool, scorer, signal)[own_n]
    return scores_n


def _diverse(confident_n: Mask, share: float, rng: np.random.Generator) -> Mask:
    """Draw the diverse rows: uniform over the pool, ``share`` of the round before overlap, (n,)."""
    count = round(share / (1 - share) * int(confident_n.sum()))
    drawn_n = np.zeros(confident_n.size, dtype=bool)
    drawn_n[rng.choice(confident_n.size, min(count, confident_n.size), replace=False)] = True
    return drawn_n
