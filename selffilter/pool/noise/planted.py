"""What noise leaves: each row's caption afterwards, of which kind it is, and where it came from."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


class Kind(enum.IntEnum):
    """What was done to a row. The names stand in the truth table."""

    untouched = 0
    mismatched = 1
    boilerplate = 2
    near_duplicate = 3
    truncated = 4
    hard_mismatched = 5
    text_in_image = 6
    wrong_language = 7


PLANTED_KINDS = tuple(kind for kind in Kind if kind != Kind.untouched)


@dataclass(frozen=True)
class Part:
    """Noise of one kind.

    Attributes:
        rows_n: (n,) int64, the rows it was planted in, each once.
        captions: Their captions afterwards.
        source_n: (n,) int64, the row that the caption (or, of a near-duplicate, image and caption)
            came from; -1 where it came from no other row.
    """

    rows_n: NDArray[np.int64]
    captions: list[str]
    source_n: NDArray[np.int64]


@dataclass(frozen=True)
class Planted:
    """A pool after planting.

    Attributes:
        captions: Of all N rows, afterwards.
        kind_N: (N,) uint8, a `Kind` each.
        source_N: (N,) int64; see `Part.source_n`.
    """

    captions: list[str]
    kind_N: NDArray[np.uint8]
    source_N: NDArray[np.int64]

    @property
    def clean_N(self) -> NDArray[np.bool_]:
        """(N,) bool: nothing was planted here. The pool's own noise may still be."""
        return self.kind_N == Kind.untouched

    def rows(self, kind: Kind) -> NDArray[np.int64]:
        """Return the rows of a kind, ascending."""
        return np.flatnonzero(self.kind_N == kind).astype(np.int64)

    def counts(self) -> dict[str, int]:
        """Return how many rows there are of each kind that occurs, untouched ones left out."""
        return {k.name: n for k in PLANTED_KINDS if (n := int((self.kind_N == k).sum()))}


def nothing() -> Part:
    """Return noise in no row."""
    return Part(np.empty(0, np.int64), [], np.empty(0, np.int64))
