"""Planting mismatched captions, honestly: which rows, with whose caption, provably wrong.

Captions are swapped only between samples whose normalised captions differ (and whose labels
differ, where both are known), so no planted pair is true by accident as far as captions and labels
can tell. What was not planted is *unknown*, not clean: the pool's own noise is still there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from selffilter.randomness import draw, shuffled

_TRIES = 200


def normalise_caption(caption: str) -> str:
    """Return a caption without case, accents' encoding, punctuation and runs of spaces."""
    folded = unicodedata.normalize("NFKC", caption).casefold()
    return " ".join(re.findall(r"\w+", folded))


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
    count = len(captions)
    keys = np.array([normalise_caption(caption) for caption in captions], dtype=object)
    names = np.array([label or "" for label in labels], dtype=object)
    chosen = draw(np.arange(count, dtype=np.int64), round(rate * count), seed, "planted")
    givers = shuffled(chosen, seed, "givers").copy()

    def collides(taker: NDArray[np.int64], giver: NDArray[np.int64]) -> NDArray[np.bool_]:
        same_label = (names[taker] == names[giver]) & (names[taker] != "")
        hit: NDArray[np.bool_] = (keys[taker] == keys[giver]) | same_label
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
    source = np.arange(count, dtype=np.int64)
    source[chosen] = givers
    # What could not be mended is given back: a cycle of captions is left out as a whole, so that
    # no caption is lost and none is planted that may be true.
    for place in np.flatnonzero(collides(chosen, givers)):
        here = chosen[place]
        while source[here] != here:
            following = source[here]
            source[here] = here
            here = following
    return source
