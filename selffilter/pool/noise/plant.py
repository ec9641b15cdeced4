"""Planting: so many rows of each kind, in rows of their own, and checked afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from selffilter.pool.noise.boilerplate import add_boilerplate
from selffilter.pool.noise.check import check_honest
from selffilter.pool.noise.hard_mismatched import mismatch_hard
from selffilter.pool.noise.mismatched import mismatch
from selffilter.pool.noise.near_duplicates import COPIES_PER_SOURCE, flood
from selffilter.pool.noise.planted import Kind, Part, Planted
from selffilter.pool.noise.text_in_image import print_captions
from selffilter.pool.noise.texts import Texts
from selffilter.pool.noise.truncated import truncate_some
from selffilter.pool.noise.wrong_language import translate_some

WEB_MIXTURE: Mapping[Kind, float] = {
    Kind.mismatched: 0.5,
    Kind.boilerplate: 0.2,
    Kind.truncated: 0.15,
    Kind.hard_mismatched: 0.1,
    Kind.near_duplicate: 0.05,
}
"""Proportions of a mixture like the web's: our choice, no measurement."""


def counts_of(samples: int, rate: float, proportions: Mapping[Kind, float]) -> dict[Kind, int]:
    """Return how many rows of each kind make up ``round(rate · samples)`` (largest remainders).

    Args:
        samples: N.
        rate: Share of N that noise is planted in.
        proportions: Of each kind in the noise; they need not sum to 1.
    """
    total, whole = round(rate * samples), sum(proportions.values())
    exact = {kind: total * share / whole for kind, share in proportions.items()}
    counts = {kind: int(number) for kind, number in exact.items()}
    largest = sorted(exact, key=lambda kind: counts[kind] - exact[kind])
    for kind in largest[: total - sum(counts.values())]:
        counts[kind] += 1
    return counts


def plant(
    texts: Texts,
    counts: Mapping[Kind, int],
    seed: int,
    *,
    copies_per_source: float = COPIES_PER_SOURCE,
    is_usable: Callable[[int], bool] = lambda _: True,
) -> Planted:
    """Plant noise: a pure function of the pool's texts, the counts and the seed.

    Kinds that not every row can take come first. A row gets one kind at most; the sources of
    near-duplicates get none.

    Args:
        texts: The pool.
        counts: How many rows of each kind. Fewer are planted where that is not possible:
            `Planted.counts` says how many.
        seed: Same seed, same noise.
        copies_per_source: See `near_duplicates.flood`.
        is_usable: Whether a row's image can be copied, or replaced by one of its size.

    Raises:
        DishonestNoiseError: If a planted row turned out to be true: a fault of this code.
    """
    free_N = np.ones(len(texts), dtype=bool)
    captions = list(texts.captions)
    kind_N = np.zeros(len(texts), dtype=np.uint8)
    source_N = np.full(len(texts), -1, dtype=np.int64)

    def settle(kind: Kind, part: Part) -> None:
        free_N[part.rows_n] = False
        kind_N[part.rows_n] = kind
        source_N[part.rows_n] = part.source_n
        for row, caption in zip(part.rows_n.tolist(), part.captions, strict=True):
            captions[row] = caption

    def free_M() -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.flatnonzero(free_N).astype(np.int64)

    if count := counts.get(Kind.hard_mismatched, 0):
        settle(Kind.hard_mismatched, mismatch_hard(texts, free_M(), count, seed))
    if count := counts.get(Kind.truncated, 0):
        settle(Kind.truncated, truncate_some(texts, free_M(), count, seed))
    if count := counts.get(Kind.wrong_language, 0):
        settle(Kind.wrong_language, translate_some(texts, free_M(), count, seed))
    if count := counts.get(Kind.text_in_image, 0):
        settle(Kind.text_in_image, print_captions(texts, free_M(), count, seed, is_usable))
    if count := counts.get(Kind.near_duplicate, 0):
        made = flood(texts, free_M(), count, seed, copies_per_source, is_usable)
        settle(Kind.near_duplicate, made.part)
        free_N[made.sources_S] = False
    if count := counts.get(Kind.mismatched, 0):
        settle(Kind.mismatched, mismatch(texts, free_M(), count, seed))
    if count := counts.get(Kind.boilerplate, 0):
        settle(Kind.boilerplate, add_boilerplate(texts, free_M(), count, seed))
    planted = Planted(captions, kind_N, source_N)
    check_honest(texts, planted)
    return planted
