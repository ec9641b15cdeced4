"""Rows whose captions are alike, best first: by shared words, or by given clusters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from selffilter.pool.noise.texts import Texts
from selffilter.randomness import hash_rows, shuffled

LOOK_AT = 512
"""Candidates looked at for a row (of each word, of a cluster): bounds the cost on large pools."""

MIN_SIMILARITY = 0.1
"""Cosine of TF-IDF below which two captions are not alike: they share no word that says much."""

_RAREST_WORDS = 8
_ROWS_A_CAPTION = 4


class Neighbours(Protocol):
    """Finds partners."""

    def of(self, row: int) -> Iterator[int]:
        """Yield rows that are still free and like this one, the most similar first."""


class ClusterNeighbours:
    """Rows of the same cluster, in random order; a row without a cluster has no neighbours.

    Args:
        texts: The pool, with clusters.
        free_M: (M,) int64, the rows to choose from.
        is_free: Whether a row still is.
        seed: Of the order.
    """

    def __init__(
        self,
        texts: Texts,
        free_M: NDArray[np.int64],
        is_free: Callable[[int], bool],
        seed: int,
    ) -> None:
        if texts.clusters_N is None:
            raise ValueError("the pool has no clusters")
        self._cluster_N = texts.clusters_N
        self._rows = _Stacks(is_free)
        for row in shuffled(free_M, seed, "partners"):
            if self._cluster_N[row]:
                self._rows.push(self._cluster_N[row], int(row))

    def of(self, row: int) -> Iterator[int]:
        """Yield up to `LOOK_AT` free rows of the row's cluster."""
        yield from self._rows.top(self._cluster_N[row], LOOK_AT)


class WordNeighbours:
    """Rows whose captions share words that say much: by the cosine of their TF-IDF vectors.

    A word is there or not (term frequency 0 or 1); its weight is log(1 + D / df) with D different
    captions, df of which have it. Candidates come from the row's rarest words, so the neighbours
    are approximate.

    Args:
        texts: The pool.
        free_M: (M,) int64, the rows to choose from.
        is_free: Whether a row still is.
        seed: Of the order among equals.
    """

    def __init__(
        self,
        texts: Texts,
        free_M: NDArray[np.int64],
        is_free: Callable[[int], bool],
        seed: int,
    ) -> None:
        self._rows = _Stacks(is_free)
        number_of: dict[str, int] = {}
        contents: list[frozenset[str]] = []
        self._caption_of: dict[int, int] = {}
        for row in shuffled(free_M, seed, "partners"):
            caption = number_of.setdefault(texts.keys_N[row], len(number_of))
            if caption == len(contents):
                contents.append(texts.content_N[row])
            self._caption_of[int(row)] = caption
            self._rows.push(caption, int(row))
        vocabulary = {w: i for i, w in enumerate(sorted(frozenset[str]().union(*contents)))}
        sizes_D = np.array([len(words) for words in contents], dtype=np.int64)
        word_E = np.array([vocabulary[w] for words in contents for w in sorted(words)], np.int64)
        caption_E = np.repeat(np.arange(len(contents), dtype=np.int64), sizes_D)
        df_W = np.bincount(word_E, minlength=len(vocabulary))
        self._idf_W = np.log1p(len(contents) / np.maximum(df_W, 1))
        squared_D = np.bincount(caption_E, self._idf_W[word_E] ** 2, minlength=len(contents))
        self._norm_D = np.sqrt(squared_D)
        self._words_E, self._word_ends_D = word_E, np.concatenate([[0], np.cumsum(sizes_D)])
        # Captions by word; in random order, so that a part of a long list is a fair sample.
        order = np.lexsort((hash_rows(caption_E, seed, "postings"), word_E))
        self._posting_E = caption_E[order]
        self._posting_ends_W = np.concatenate([[0], np.cumsum(df_W)])

    def of(self, row: int) -> Iterator[int]:
        """Yield free rows with a similar but not the same normalised caption."""
        mine = self._caption_of[row]
        words = self._words_E[self._word_ends_D[mine] : self._word_ends_D[mine + 1]]
        words = words[np.argsort(-self._idf_W[words], kind="stable")][:_RAREST_WORDS]
        postings = [self._posting(int(word), row) for word in words]
        if not postings:
            return
        weights = np.repeat(self._idf_W[words] ** 2, [len(posting) for posting in postings])
        captions, place = np.unique(np.concatenate(postings), return_inverse=True)
        cosine = np.bincount(place, weights) / (self._norm_D[mine] * self._norm_D[captions])
        for best in np.argsort(-cosine, kind="stable"):
            if cosine[best] < MIN_SIMILARITY:
                return
            if captions[best] != mine:
                yield from self._rows.top(int(captions[best]), _ROWS_A_CAPTION)

    def _posting(self, word: int, row: int) -> NDArray[np.int64]:
        """Return captions that have a word: all, or a window that differs from row to row."""
        first, end = self._posting_ends_W[word : word + 2]
        if end - first <= LOOK_AT:
            return self._posting_E[first:end]
        window = (row * LOOK_AT + np.arange(LOOK_AT)) % (end - first)
        return self._posting_E[first + window]


class _Stacks:
    """Rows by group; those that are no longer free are dropped as they come up."""

    def __init__(self, is_free: Callable[[int], bool]) -> None:
        self._is_free = is_free
        self._stacks: dict[object, list[int]] = {}

    def push(self, group: object, row: int) -> None:
        self._stacks.setdefault(group, []).append(row)

    def top(self, group: object, count: int) -> list[int]:
        """Return the first `count` free rows of a group."""
        stack = self._stacks.get(group, [])
        kept: list[int] = []
        while stack and len(kept) < count:
            row = stack.pop()
            if self._is_free(row):
                kept.append(row)
        stack.extend(reversed(kept))
        return kept
