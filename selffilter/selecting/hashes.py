"""Hashes of images, one a row: which stand more than once, and which rows have one of a list.

Only bare arrays of hashes are sorted, never rows by their hash: of 10⁸ rows that takes a second.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from selffilter.selecting.scratch import Scratch, chunks

UNKNOWN_HASH = 0
"""The hash of an image that nobody has looked at: it is like no other."""

_TABLE_BITS = 27


def repeated_hashes(
    hashes_N: NDArray[np.uint64], among_N: NDArray[np.bool_], scratch: Scratch | None = None
) -> NDArray[np.uint64]:
    """Return the hashes that stand more than once, each once, ascending; 8 bytes a row."""
    sorted_M = (scratch or Scratch()).zeros(int(np.count_nonzero(among_N)), np.uint64)
    at = 0
    for part in chunks(len(hashes_N)):
        some = hashes_N[part][among_N[part]]
        sorted_M[at : at + len(some)] = some
        at += len(some)
    sorted_M.sort()
    found = [np.empty(0, np.uint64)]
    for part in chunks(len(sorted_M)):
        some = sorted_M[max(part.start - 1, 0) : part.stop]
        again = some[1:][some[1:] == some[:-1]]
        found.append(_each_once(again))
    repeated_G = _each_once(np.concatenate(found))
    return repeated_G[repeated_G != UNKNOWN_HASH]


def rows_with(
    hashes_N: NDArray[np.uint64], among_N: NDArray[np.bool_], wanted_G: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the rows that have one of some hashes.

    Args:
        hashes_N: Of all rows, (N,) uint64.
        among_N: Which of them to look at, (N,) bool.
        wanted_G: Ascending, each once.

    Returns:
        Rows, ascending, (M,) int64, and the place of each one's hash in `wanted_G`, (M,) int64.
    """
    # A table of what the upper bits of wanted hashes are, 128 MiB, spares most rows the search.
    shift = np.uint64(64 - _TABLE_BITS)
    maybe = np.zeros(1 << _TABLE_BITS, bool)
    maybe[wanted_G >> shift] = True
    rows, places = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for part in chunks(len(hashes_N)):
        hashes = hashes_N[part]
        row_n = np.flatnonzero(among_N[part] & maybe[hashes >> shift])
        row_n = row_n[np.argsort(hashes[row_n])]  # searching in order is far faster
        place_n = np.searchsorted(wanted_G, hashes[row_n], side="right") - 1
        there_n = wanted_G[place_n] == hashes[row_n]  # below the least, -1: the greatest
        row_n, place_n = row_n[there_n], place_n[there_n]
        ascending = np.argsort(row_n)
        rows.append(part.start + row_n[ascending])
        places.append(place_n[ascending])
    return np.concatenate(rows), np.concatenate(places)


def _each_once(ascending_n: NDArray[np.uint64]) -> NDArray[np.uint64]:
    # np.unique makes nothing of the order: numpy 2.4 takes seconds for two million.
    first_n = np.ones(len(ascending_n), bool)
    first_n[1:] = ascending_n[1:] != ascending_n[:-1]
    return ascending_n[first_n]
