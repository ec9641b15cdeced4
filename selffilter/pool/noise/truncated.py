"""Captions cut off early: what is left is true, and says less."""

from __future__ import annotations

from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from selffilter.pool.noise.planted import Part
from selffilter.pool.noise.texts import Texts, words_of
from selffilter.randomness import draw, uniform

_CUTS = 64
"""Places tried in a caption: a pool may hold one of a million words, all of them the same."""


def truncate_some(texts: Texts, free_M: NDArray[np.int64], count: int, seed: int) -> Part:
    """Cut the captions of rows drawn from those that are free and lose something by it.

    Args:
        texts: The pool.
        free_M: (M,) int64, rows that noise may be planted in.
        count: How many; fewer if fewer can be cut.
        seed: Same seed, same noise.
    """
    where_M = uniform(free_M, seed, "cut")
    cut = {
        int(row): made
        for row, where in zip(free_M, where_M, strict=True)
        if (made := truncate_caption(texts.captions[row], where)) is not None
    }
    rows_n = draw(np.array(sorted(cut), dtype=np.int64), min(count, len(cut)), seed, "truncated")
    captions = [cut[int(row)] for row in rows_n]
    return Part(rows_n, captions, np.full(len(rows_n), -1, dtype=np.int64))


def truncate_caption(caption: str, where: float) -> str | None:
    """Cut a caption within its first half: between words, or inside its only word.

    Args:
        caption: The caption.
        where: In [0, 1): where in the first half.

    Returns:
        What is left, without trailing punctuation; None if no cut leaves a word and loses one.
    """
    words = caption.split()
    pieces, glue = (words, " ") if len(words) > 1 else (list(caption.strip()), "")
    before = words_of(caption)
    keep_first = min(1 + int(where * max(1, len(pieces) // 2)), len(pieces) - 1)
    # Shorter where that loses nothing, longer where that leaves nothing.
    for keep in islice(chain(range(keep_first, 0, -1), range(keep_first + 1, len(pieces))), _CUTS):
        left = _without_marks_at_the_end(glue.join(pieces[:keep]))
        after = words_of(left)
        if after and not before <= after:
            return left
    return None


def _without_marks_at_the_end(text: str) -> str:
    end = len(text)  # not by a regex: [\W_]+$ takes the square of a long run in the middle
    while end and not text[end - 1].isalnum():
        end -= 1
    return text[:end]
