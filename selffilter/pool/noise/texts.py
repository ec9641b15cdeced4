"""What noise knows of a pool: its captions and, where given, labels and clusters."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


def normalise_caption(caption: str) -> str:
    """Return a caption without case, accents' encoding, punctuation and runs of spaces."""
    folded = unicodedata.normalize("NFKC", caption).casefold()
    return " ".join(re.findall(r"\w+", folded))


def words_of(caption: str) -> frozenset[str]:
    """Return the words of a caption, normalised."""
    return frozenset(normalise_caption(caption).split())


def content_words(normalised: str) -> frozenset[str]:
    """Return the words of a normalised caption without a plural's s ("two cats" = "two cat")."""
    return frozenset(
        word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
        for word in normalised.split()
    )


def repeated_share(captions: Iterable[str]) -> float:
    """Return the share of rows whose normalised caption also stands at another row.

    Repeated captions are false negatives of each other in a contrastive batch.
    """
    counts = Counter(map(normalise_caption, captions))
    total = counts.total()
    return sum(n for n in counts.values() if n > 1) / total if total else 0.0


class Texts:
    """The captions of a pool, in the order of its rows, and what is known of their content.

    Args:
        captions: One a row.
        labels: What a row shows, None where that is not known; None: of no row.
        clusters: Groups of similar rows, likewise.

    Attributes:
        captions: As given.
        keys_N: (N,) object, the normalised captions.
        labels_N: (N,) object of str, "" where nothing is known.
        clusters_N: (N,) object of str, "" likewise; None if no clusters were given.
    """

    def __init__(
        self,
        captions: Sequence[str],
        labels: Sequence[str | None] | None = None,
        clusters: Sequence[str | None] | None = None,
    ) -> None:
        self.captions = captions
        self.keys_N = _objects(normalise_caption(caption) for caption in captions)
        self.labels_N = _objects(label or "" for label in labels or [None] * len(captions))
        self.clusters_N = None if clusters is None else _objects(name or "" for name in clusters)

    def __len__(self) -> int:
        return len(self.captions)

    @cached_property
    def content_N(self) -> NDArray[np.object_]:
        """(N,) object: each row's `content_words`; rows of one caption share one set."""
        known = {key: content_words(key) for key in set(self.keys_N)}
        return _objects(known[key] for key in self.keys_N)

    @cached_property
    def keys_of_labels(self) -> set[tuple[str, str]]:
        """Every (label, normalised caption) that the pool holds."""
        return {
            (label, key) for label, key in zip(self.labels_N, self.keys_N, strict=True) if label
        }

    @cached_property
    def labels_are_clusters(self) -> bool:
        """Whether labels and clusters are one thing."""
        return self.clusters_N is not None and bool((self.labels_N == self.clusters_N).all())

    def says_the_same(self, row: int, other: int) -> bool:
        """Whether one row's caption says all that the other's says (or has no words at all)."""
        one, two = self.content_N[row], self.content_N[other]
        return bool(one <= two or two <= one)

    def stands_for(self, row: int, other: int) -> bool:
        """Whether the caption of `other` also stands at a row of the label that `row` has."""
        return (self.labels_N[row], self.keys_N[other]) in self.keys_of_labels


def _objects(values: Iterable[object]) -> NDArray[np.object_]:
    # np.array would turn equally long sets into a matrix.
    listed = list(values)
    made = np.empty(len(listed), dtype=object)
    made[:] = listed
    return made
