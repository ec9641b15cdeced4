"""Groupings of a pool's rows: by source, language, cluster, length of the caption.

A grouping is an int32 a row and a list of names, so that 10⁸ rows take 400 MB and no Python object
stands for a row. Everything here goes over the rows in chunks.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selffilter.selecting.scratch import chunks

UNKNOWN = -1
"""The code of rows of which nobody knows to which group they belong."""

CAPTION_CHARS = (10, 25, 50, 100, 200)
"""Inclusive upper bounds of the lengths of captions: 1-10, 11-25, 26-50, 51-100, 101-200, >200."""


@dataclass(frozen=True)
class Groups:
    """Which group each row is in.

    Attributes:
        name: What the rows are grouped by, as ``language`` or ``cluster``.
        codes_N: (N,) int32: a place in `names`, or `UNKNOWN`.
        names: Name of each group, (G,).

    Raises:
        ValueError: If a code is no place in `names`, or codes are not (N,) int32.
    """

    name: str
    codes_N: NDArray[np.int32]
    names: list[str]

    def __post_init__(self) -> None:
        if self.codes_N.dtype != np.int32 or self.codes_N.ndim != 1:
            raise ValueError(
                f"codes of grouping {self.name} are {self.codes_N.ndim}-dimensional "
                f"{self.codes_N.dtype}, not (N,) int32"
            )
        if not len(self.codes_N):
            return
        low, high = int(self.codes_N.min()), int(self.codes_N.max())
        if low < UNKNOWN or high >= len(self.names):
            raise ValueError(
                f"grouping {self.name} has codes {low} to {high} for {len(self.names)} groups"
            )

    def __len__(self) -> int:
        """Return the number of groups, the unknown rows not counted as one."""
        return len(self.names)

    def counts(
        self, of_N: NDArray[np.bool_] | NDArray[np.integer] | None = None
    ) -> NDArray[np.int64]:
        """Count rows by group.

        Args:
            of_N: (N,) bool: which rows count; or (N,) integer: how often each does; None: all once.

        Returns:
            (G + 1,) int64. ``counts[code]`` is that of a group; the last, ``counts[UNKNOWN]``, that
            of the rows of no known group.

        Raises:
            ValueError: If `of_N` is not as long as the grouping.
        """
        if of_N is not None and len(of_N) != len(self.codes_N):
            raise ValueError(f"{len(of_N)} weights for {len(self.codes_N)} rows of {self.name}")
        total = np.zeros(len(self.names) + 1, np.int64)
        for part in chunks(len(self.codes_N)):
            total += self._counted(self.codes_N[part], None if of_N is None else of_N[part])
        return total

    def counts_of_rows(
        self, rows_K: NDArray[np.int64], weights_K: NDArray[np.integer] | None = None
    ) -> NDArray[np.int64]:
        """Count some rows by group; see `counts`.

        Args:
            rows_K: Row numbers; a row that stands there twice counts twice.
            weights_K: How often each counts; None: once.
        """
        if weights_K is not None and len(weights_K) != len(rows_K):
            raise ValueError(f"{len(weights_K)} weights for {len(rows_K)} rows")
        total = np.zeros(len(self.names) + 1, np.int64)
        for part in chunks(len(rows_K)):
            weights_n = None if weights_K is None else weights_K[part]
            total += self._counted(self.codes_N[rows_K[part]], weights_n)
        return total

    def _counted(
        self,
        codes_n: NDArray[np.int32],
        of_n: NDArray[np.bool_] | NDArray[np.integer] | None,
    ) -> NDArray[np.int64]:
        if of_n is not None and of_n.dtype == np.bool_:
            codes_n, of_n = codes_n[of_n], None
        # UNKNOWN, which is -1, becomes the last of G + 1 places. Sums of weights are made in
        # float64: exact below 2^53, which a chunk's cannot reach with weights of 31 bits.
        places_n = np.where(codes_n < 0, np.int32(len(self.names)), codes_n)
        counted = np.bincount(places_n, weights=of_n, minlength=len(self.names) + 1)
        return counted.astype(np.int64)


def bucketed(
    name: str, values_N: NDArray[np.number], bounds: Sequence[float], first: float = 1
) -> Groups:
    """Group rows by the size of a number, as of `CAPTION_CHARS`.

    Args:
        name: Of the grouping.
        values_N: (N,) of numbers.
        bounds: Inclusive upper bounds of the buckets, ascending; one more bucket lies above them.
        first: The least number that is known: what is smaller, and NaN, is of no group.

    Returns:
        ``len(bounds) + 1`` groups. Where all are whole numbers they are named ``11-25``; otherwise
        ``(10, 25]``.

    Raises:
        ValueError: If the bounds are none, or do not ascend from `first`.
    """
    edges = np.asarray(bounds, np.float64)
    if not len(edges) or edges[0] < first or (np.diff(edges) <= 0).any():
        raise ValueError(f"bounds {list(bounds)} of {name} do not ascend from {first}")
    codes_N = np.empty(len(values_N), np.int32)
    for part in chunks(len(values_N)):
        values_n = values_N[part]
        codes_N[part] = np.where(
            values_n >= first, np.searchsorted(edges, values_n, side="left"), UNKNOWN
        )
    whole = np.issubdtype(values_N.dtype, np.integer) and all(
        float(bound).is_integer() for bound in (first, *bounds)
    )
    return Groups(name, codes_N, _bucket_names([first, *bounds], whole))


def _bucket_names(edges: list[float], whole: bool) -> list[str]:
    if not whole:
        named = [f"({low:g}, {high:g}]" for low, high in itertools.pairwise(edges)]
        return [f"[{named[0][1:]}", *named[1:], f">{edges[-1]:g}"]
    lows = [int(edges[0]), *(int(edge) + 1 for edge in edges[1:-1])]
    pairs = zip(lows, (int(edge) for edge in edges[1:]), strict=True)
    named = [f"{low}-{high}" if low != high else str(low) for low, high in pairs]
    return [*named, f">{int(edges[-1])}"]
