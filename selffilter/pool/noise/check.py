"""Looking at planted noise afterwards: is any of it true, and what is doubtful?

Written from the definitions, not from the code that plants.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cached_property

import numpy as np

from selffilter.pool.noise.planted import Kind, Planted
from selffilter.pool.noise.texts import Texts, normalise_caption, words_of


class DishonestNoiseError(RuntimeError):
    """A planted row is not what the truth would say it is."""


def check_honest(texts: Texts, planted: Planted) -> None:
    """Check every planted row against its kind's definition (docs/noise.md).

    Raises:
        DishonestNoiseError: Naming the first row that does not fit.
    """
    exchanged = (Kind.mismatched, Kind.hard_mismatched)
    foreign = _Foreign(texts)
    for row, (before, after) in enumerate(zip(texts.captions, planted.captions, strict=True)):
        kind, source = Kind(planted.kind_N[row]), int(planted.source_N[row])
        if kind == Kind.untouched:
            right = after == before and source == -1
        elif kind in exchanged:
            label = texts.labels_N[row]
            right = after == texts.captions[source]
            right &= normalise_caption(after) != normalise_caption(before)
            within = kind == Kind.hard_mismatched and texts.labels_are_clusters
            right &= within or not label or label != texts.labels_N[source]
            right &= kind == Kind.mismatched or not texts.says_the_same(row, source)
        elif kind == Kind.boilerplate:
            right = not words_of(after) <= words_of(before)
        elif kind == Kind.truncated:
            right = bool(words_of(after)) and not words_of(before) <= words_of(after)
        elif kind == Kind.text_in_image:
            right = after == before and source == -1 and bool(words_of(after))
        elif kind == Kind.wrong_language:
            right = foreign.is_translation(before, after)
        else:
            right = source != row and planted.kind_N[source] == Kind.untouched
            right &= words_of(texts.captions[source]) <= words_of(after)
        if not right:
            raise DishonestNoiseError(f"row {row} is not {kind.name}: {before!r} -> {after!r}")
    for kind in exchanged:
        rows = planted.rows(kind).tolist()
        if Counter(texts.captions[r] for r in rows) != Counter(planted.captions[r] for r in rows):
            raise DishonestNoiseError(f"captions were lost among the {kind.name}")


class _Foreign:
    """What a foreign word means: one word, which has no other; and no word of the pool."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self._meaning: dict[str, str] = {}
        self._foreign: dict[str, str] = {}

    @cached_property
    def _own(self) -> set[str]:
        return {word for caption in self._texts.captions for word in _letters(caption)}

    def is_translation(self, before: str, after: str) -> bool:
        words, foreign = _letters(before), _letters(after)
        if not words or len(words) != len(foreign) or self._own & set(foreign):
            return False
        return before.isascii() and all(
            self._foreign.setdefault(word, other) == other
            and self._meaning.setdefault(other, word) == word
            for word, other in zip(words, foreign, strict=True)
        )


def _letters(text: str) -> list[str]:
    return re.findall("[a-z]+", text.lower())


def doubtful(texts: Texts, planted: Planted) -> dict[str, int]:
    """Count exchanged captions that may yet be true, as far as captions and labels can tell.

    Returns:
        ``says_the_same``: one of the two captions has all the content words of the other;
        ``stands_for_label``: the new caption also stands at a row of this row's label.
    """
    exchanged = np.isin(planted.kind_N, (Kind.mismatched, Kind.hard_mismatched))
    pairs = [(row, int(planted.source_N[row])) for row in np.flatnonzero(exchanged).tolist()]
    return {
        "says_the_same": sum(texts.says_the_same(row, source) for row, source in pairs),
        "stands_for_label": sum(texts.stands_for(row, source) for row, source in pairs),
    }
