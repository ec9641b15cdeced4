"""Words that a selection gains and loses: how often captions with a word are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selffilter.errors import StoreGone, UserError
from selffilter.pool.captions import CaptionKey
from selffilter.pool.failures import UnusableSample
from selffilter.pool.index import Pool
from selffilter.pool.noise.texts import words_of
from selffilter.pool.row_reader import RowReader, captions_in, members_read, size_limits

MOST_CAPTIONS = 6000
_AT_ONCE = 500
_LEAST_CAPTIONS = 8
_WORD_CHARS = 24
_Z = 2.5


@dataclass(frozen=True)
class Word:
    """A word, and what became of the captions that have it.

    Attributes:
        word: Normalised; of at most `_WORD_CHARS` characters.
        captions: How many of those that were read have it.
        first: Share of them that the first round keeps.
        last: Share of them that the last round keeps.
        z: How far `last` is from that of all captions, in standard errors of a share of so many.
    """

    word: str
    captions: int
    first: float
    last: float
    z: float


@dataclass(frozen=True)
class Words:
    """What a draw of captions says.

    Attributes:
        gained: Words that are kept more often than others, the surest first.
        lost: Words that are kept more seldom.
        captions: How many captions were read.
        first: Share of all of them that the first round keeps.
        last: Likewise the last.
        tested: How many words are frequent enough to be looked at.
    """

    gained: list[Word]
    lost: list[Word]
    captions: int
    first: float
    last: float
    tested: int


def find_words(
    captions_S: Sequence[str],
    first_S: NDArray[np.bool_],
    last_S: NDArray[np.bool_],
    most: int = 14,
    least_captions: int = _LEAST_CAPTIONS,
) -> Words:
    """Compare how often captions with a word are kept with how often all are.

    A caption counts once for each of its words. A word is named if its share differs by `_Z`
    standard errors of a draw without replacement (the hypergeometric's); among thousands of words
    a few do so by chance.

    Args:
        captions_S: A draw of the base's captions.
        first_S: Which of them the first round keeps.
        last_S: Which of them the last round keeps.
        most: How many are named on each side.
        least_captions: Words of fewer captions are passed over.
    """
    total = len(captions_S)
    words_S = [words_of(caption) for caption in captions_S]
    counts = Counter(word for words in words_S for word in words)
    firsts = _counts(words_S, first_S)
    lasts = _counts(words_S, last_S)
    rate = float(last_S.mean()) if total else float("nan")
    found = []
    tested = {w: n for w, n in counts.items() if n >= least_captions and not w.isdecimal()}
    for word, count in tested.items():
        if len(word) > _WORD_CHARS or len(word) < 2 or not 0 < rate < 1 or count == total:
            continue
        share = lasts[word] / count
        error = (rate * (1 - rate) / count * (total - count) / (total - 1)) ** 0.5
        found.append(Word(word, count, firsts[word] / count, share, (share - rate) / error))
    found.sort(key=lambda w: (-w.z, w.word))
    gained = [w for w in found if w.z >= _Z][:most]
    found.sort(key=lambda w: (w.z, w.word))
    lost = [w for w in found if w.z <= -_Z][:most]
    share_first = float(first_S.mean()) if total else float("nan")
    return Words(gained, lost, total, share_first, rate, len(tested))


def _counts(words_S: Sequence[frozenset[str]], which_S: NDArray[np.bool_]) -> Counter[str]:
    kept = np.flatnonzero(which_S).tolist()
    return Counter(word for place in kept for word in words_S[place])


def read_captions(pool: Pool, rows_K: NDArray[np.int64]) -> tuple[list[str], str]:
    """Read the first caption of some rows, several hundred in a request's plan.

    Args:
        pool: The pool.
        rows_K: (K,) int64.

    Returns:
        K texts, "" for a row without one that can be read; and why reading stopped, "" if it did
        not.
    """
    key = CaptionKey.parse(pool.caption_key)
    reader, members = RowReader(pool, limits=size_limits(None)), members_read(key)[1:]
    found: list[str] = []
    try:
        for begin in range(0, len(rows_K), _AT_ONCE):
            for texts in reader.read(rows_K[begin : begin + _AT_ONCE], members):
                try:
                    found.append(captions_in(key, texts)[0])
                except UnusableSample:
                    found.append("")
    except (StoreGone, UserError, OSError) as error:
        return found + [""] * (len(rows_K) - len(found)), str(error)
    return found, ""
