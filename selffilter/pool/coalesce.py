"""Which bytes to ask for: pieces that stand near each other are read as one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Ranges(NamedTuple):
    """What is asked for, and where each piece stands in it.

    Attributes:
        start_R: (R,) int64, first byte of each range, ascending.
        end_R: (R,) int64, one past the last.
        range_N: (N,) int64, the range that holds piece i.
    """

    start_R: NDArray[np.int64]
    end_R: NDArray[np.int64]
    range_N: NDArray[np.int64]


def coalesce(
    start_N: NDArray[np.int64], size_N: NDArray[np.int64], max_gap: int, split_bytes: int = 32 << 20
) -> Ranges:
    """Merge pieces of one file whose gap is small.

    Args:
        start_N: (N,) int64, first byte of each piece, in any order.
        size_N: (N,) int64, bytes of each.
        max_gap: A gap of at most so many bytes is read along: what a request is worth.
        split_bytes: A range that would grow longer than this is cut between two pieces, so that
            what lies in memory, and what a fault costs, stays bounded.
    """
    order = np.argsort(start_N, kind="stable")
    start, end = start_N[order], start_N[order] + size_N[order]
    reached = np.maximum.accumulate(end) if len(end) else end
    begins = np.ones(len(start), dtype=bool)
    begins[1:] = start[1:] - reached[:-1] > max_gap
    first_of = start[begins][np.cumsum(begins) - 1]
    # A cut where a multiple of split_bytes is passed, but never inside what overlaps.
    begins[1:] |= (np.diff((start - first_of) // split_bytes) > 0) & (start[1:] >= reached[:-1])
    number = np.cumsum(begins) - 1
    range_N = np.empty(len(order), dtype=np.int64)
    range_N[order] = number
    last = np.append(np.flatnonzero(begins)[1:], len(start)) - 1 if len(start) else number
    return Ranges(start[begins], reached[last], range_N)
