"""Captions in a language that the rest of the pool is not in: a stand-in for a foreign one.

No dictionary comes with selffilter, so the language is made up: a letter stands for another one,
vowels for vowels and consonants for consonants, the same throughout the pool. Unlike a real one it
has the word order, the endings and the lengths of the pool's own, and a word for each of its words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from selffilter.pool.noise.planted import Part
from selffilter.pool.noise.texts import Texts
from selffilter.randomness import draw, shuffled

_VOWELS = "aeiouy"
_CONSONANTS = "bcdfghjklmnpqrstvwxz"
_WORD = re.compile("[a-zA-Z]+")


def translate_some(texts: Texts, free_M: NDArray[np.int64], count: int, seed: int) -> Part:
    """Translate the captions of rows drawn from those that are free and can be translated.

    Args:
        texts: The pool.
        free_M: (M,) int64, rows that noise may be planted in.
        count: How many; fewer if fewer can be translated.
        seed: Same seed, same noise.
    """
    rows_m = free_M[[can_be_translated(texts.captions[row]) for row in free_M.tolist()]]
    rows_n = draw(rows_m, min(count, len(rows_m)), seed, "wrong language")
    lexicon = make_lexicon(texts.captions, seed)
    captions = [translate(texts.captions[row], lexicon) for row in rows_n.tolist()]
    return Part(rows_n, captions, np.full(len(rows_n), -1, dtype=np.int64))


def can_be_translated(caption: str) -> bool:
    """Whether all letters of a caption have a counterpart, and there is one."""
    return caption.isascii() and _WORD.search(caption) is not None


def make_lexicon(captions: Iterable[str], seed: int) -> dict[str, str]:
    """Return a foreign word for each word of a pool, both in lower case.

    No two words have the same, and none is a word of the pool: where the letters alone would make
    one, it is longer.

    Args:
        captions: All of them. Words are runs of the letters a to z.
        seed: Of the letters.
    """
    known = {word.lower() for caption in captions for word in _WORD.findall(caption)}
    letters = _exchanged(_VOWELS, seed, "vowels") | _exchanged(_CONSONANTS, seed, "consonants")
    table = str.maketrans(letters)
    ending = letters["e"] + letters["n"]
    lexicon: dict[str, str] = {}
    taken = set(known)
    for word in sorted(known):
        foreign = word.translate(table)
        while foreign in taken:
            foreign += ending
        taken.add(foreign)
        lexicon[word] = foreign
    return lexicon


def translate(caption: str, lexicon: dict[str, str]) -> str:
    """Replace each word; capitals, digits and punctuation stay where they are."""

    def foreign(found: re.Match[str]) -> str:
        word = found[0]
        made = lexicon[word.lower()]
        if word.isupper() and len(word) > 1:
            return made.upper()
        return made.capitalize() if word[0].isupper() else made

    return _WORD.sub(foreign, caption)


def _exchanged(letters: str, seed: int, what: str) -> dict[str, str]:
    # Each stands for the next one of a ring, so that none stands for itself.
    ring = [letters[i] for i in shuffled(np.arange(len(letters)), seed, what).tolist()]
    return dict(zip(ring, [*ring[1:], ring[0]], strict=True))
