"""The diverse share: rows drawn without a look at their scores.

Uniform over the entire base (arXiv 2606.23611: "random diverse samples"), or the same number from
each group of rows as far as it has so many.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from selffilter.randomness import hash_rows
from selffilter.selecting.order import KeysOf, OrderOfTies, Places, Quotas, take
from selffilter.selecting.scratch import Scratch


def draw_rows(
    among_N: NDArray[np.bool_],
    count: int,
    *purpose: int | str,
    codes_N: NDArray[np.int32] | None = None,
    groups: int = 0,
    scratch: Scratch | None = None,
) -> NDArray[np.bool_]:
    """Draw rows without replacement: the same rows as `selffilter.randomness.draw`.

    Args:
        among_N: Which rows take part.
        count: How many to draw; no more than there are.
        *purpose: See `randomness.key_from`.
        codes_N: Draw as many from each group as from every other, so far as it has them; int32,
            -1: unknown, a group like the others. None: uniformly.
        groups: How many there are, the unknown not counted.
        scratch: Where arrays of a row each come from.

    Returns:
        (N,) bool.
    """
    keys, ties = by_lot(*purpose)
    quotas = None
    if codes_N is not None:
        codes_N = np.where(codes_N < 0, groups, codes_N).astype(np.int32)
        sizes_G = np.bincount(codes_N[among_N], minlength=groups + 1)
        even_G = even_shares(sizes_G, count)
        quotas = Quotas(codes_N, even_G, even_G)
    return take(keys, among_N, count, ties, quotas=quotas, scratch=scratch)


def by_lot(*purpose: int | str) -> tuple[KeysOf, OrderOfTies]:
    """Return keys that put rows in the order of a hash of theirs, and what decides between ties."""

    def hashes(places: Places) -> NDArray[np.uint64]:
        return hash_rows(places, *purpose)

    def keys(part: slice) -> NDArray[np.uint32]:
        places = np.arange(part.start, part.stop, dtype=np.int64)
        return (hashes(places) >> np.uint64(32)).astype(np.uint32)

    ties = OrderOfTies(
        lambda places: np.lexsort((places, hashes(places))),
        lambda places: hashes(places).astype(np.uint32),  # the lower half
    )
    return keys, ties


def even_shares(sizes_G: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """Share a number out over groups, evenly so far as they are large enough.

    What does not divide goes to the first groups that have room.

    Returns:
        (G,) int64, at most ``sizes_G``; they sum to ``min(count, sum of the sizes)``.
    """
    count = min(count, int(sizes_G.sum()))
    level = 0
    shares_G = np.zeros(len(sizes_G), np.int64)
    while count > 0:
        room_G = sizes_G > shares_G
        each = max(1, count // int(room_G.sum()))
        level = level + each
        more_G = np.minimum(sizes_G, level) - shares_G
        if more_G.sum() > count:  # fewer than one for each group with room
            more_G = np.where(np.cumsum(room_G) <= count, more_G, 0)
        shares_G = shares_G + more_G
        count -= int(more_G.sum())
    return shares_G
