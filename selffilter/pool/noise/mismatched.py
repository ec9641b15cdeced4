"""Captions exchanged between rows drawn at random.

Two rows may exchange captions only if their normalised captions differ (and their labels, where
both are known), so no planted pair is true by accident as far as captions and labels can tell.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from selffilter.pool.noise.planted import Part
from selffilter.pool.noise.texts import Texts
from selffilter.randomness import draw, shuffled

_TRIES = 200


def plant_mismatches(
    captions: Sequence[str], labels: Sequence[str | None], rate: float, seed: int
) -> NDArray[np.int64]:
    """Choose whose caption each sample gets.

    Args:
        captions: Of all samples.
        labels: What is known of their content, or None.
        rate: Share of the samples that get another's caption.
        seed: Same seed, same noise.

    Returns:
        (N,) int64: sample i gets the caption of sample ``source[i]``; ``source[i] == i`` where
        nothing was planted. Among the planted samples the captions are permuted, so every caption
        stands as often as before. Exactly ``round(rate · N)`` are planted if that is possible;
        fewer if too many captions are alike to be exchanged (the truth says which).
    """
    source = np.arange(len(captions), dtype=np.int64)
    part = mismatch(Texts(captions, labels), source.copy(), round(rate * len(captions)), seed)
    source[part.rows_n] = part.source_n
    return source


def mismatch(texts: Texts, free_M: NDArray[np.int64], count: int, seed: int) -> Part:
    """Permute the captions of rows drawn from those that are free; see `plant_mismatches`.

    Args:
        texts: The pool.
        free_M: (M,) int64, rows that noise may be planted in.
        count: How many; fewer if that is not possible.
        seed: Same seed, same noise.
    """
    chosen = draw(free_M, min(count, len(free_M)), seed, "planted")
    givers = shuffled(chosen, seed, "givers").copy()

    def collides(taker: NDArray[np.int64], giver: NDArray[np.int64]) -> NDArray[np.bool_]:
        labels_N, keys_N = texts.labels_N, texts.keys_N
        same_label = (labels_N[taker] == labels_N[giver]) & (labels_N[taker] != "")
        hit: NDArray[np.bool_] = (keys_N[taker] == keys_N[giver]) | same_label
        return hit

    for attempt in range(_TRIES):
        bad = np.flatnonzero(collides(chosen, givers))
        if not len(bad):
            break
        # Exchange each bad one with a random other, where that leaves both right.
        others = shuffled(np.arange(len(chosen), dtype=np.int64), seed, "mend", attempt)[: len(bad)]
        for place, other in zip(bad, others, strict=True):
            pair = np.array([place, other])
            swapped = givers[pair[::-1]]
            if place != other and not collides(chosen[pair], swapped).any():
                givers[pair] = swapped
    source = np.arange(len(texts), dtype=np.int64)
    source[chosen] = givers
    # What could not be mended is given back: a cycle of captions is left out as a whole, so that
    # no caption is lost and none is planted that may be true.
    for place in np.flatnonzero(collides(chosen, givers)):
        here = chosen[place]
        while source[here] != here:
            following = source[here]
            source[here] = here
            here = following
    rows = chosen[source[chosen] != chosen]
    return Part(rows, [texts.captions[giver] for giver in source[rows]], source[rows])
