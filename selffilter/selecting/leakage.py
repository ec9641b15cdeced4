"""Rows of the pool that show what is in an evaluation set.

Two ways of finding them: the same image, by its hash; and an image whose embedding is near to that
of an evaluation image. What the second is worth depends on the model that embeds: a young one takes
many images for near that are only of a kind.

Rows are numbered 0 to N − 1. Evaluation images are numbered 0 to M − 1, over all sets. Several of
them may be the same image; the first is named then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from selffilter.selecting.cosines import (
    ROUNDING,
    Features,
    FeaturesOf,
    cosines_of_pairs,
    nearest,
    streamed,
    usable,
)
from selffilter.selecting.hashes import UNKNOWN_HASH, rows_with


class Leaks(NamedTuple):
    """Rows that show an evaluation image, ascending.

    Attributes:
        rows_L: (L,) int64.
        of_L: (L,) int64: the evaluation image.
        cosine_L: (L,) float32, of the embeddings; NaN where it is the hash that is the same.
    """

    rows_L: NDArray[np.int64]
    of_L: NDArray[np.int64]
    cosine_L: NDArray[np.float32]

    def then(self, later: Leaks) -> Leaks:
        """Return these and others as one; of a row that is in both, what these say."""
        new_M = ~np.isin(later.rows_L, self.rows_L)
        rows = np.concatenate([self.rows_L, later.rows_L[new_M]])
        of = np.concatenate([self.of_L, later.of_L[new_M]])
        cosine = np.concatenate([self.cosine_L, later.cosine_L[new_M]])
        order = np.argsort(rows)
        return Leaks(rows[order], of[order], cosine[order])


def same_images(
    hashes_N: NDArray[np.uint64], among_N: NDArray[np.bool_], evaluation_M: NDArray[np.uint64]
) -> Leaks:
    """Find rows whose image has the hash of an evaluation image.

    Args:
        hashes_N: Of the pool's images, (N,) uint64; `UNKNOWN_HASH`: not known.
        among_N: Which rows to look at, (N,) bool.
        evaluation_M: Of the evaluation images, (M,) uint64; likewise.
    """
    wanted_G, first_G = np.unique(evaluation_M, return_index=True)
    known_G = wanted_G != UNKNOWN_HASH
    rows, place = rows_with(hashes_N, among_N, wanted_G[known_G])
    return Leaks(rows, first_G[known_G][place], np.full(len(rows), np.nan, np.float32))


def near_images(
    features_of: FeaturesOf,
    among_N: NDArray[np.bool_],
    evaluation_MD: Features,
    threshold: float,
    progress: Callable[[int], None] = lambda _: None,
) -> Leaks:
    """Find rows whose image embedding is near to one of an evaluation image.

    Every row is compared with every evaluation image: 2·M·D operations a row.

    Args:
        features_of: Of the pool's images; asked for rows in ascending order, some at a time.
        among_N: Which rows to look at, (N,) bool.
        evaluation_MD: Of the evaluation images by the same model, (M, D) float32, unit-norm; NaN
            along an image that cannot be used.
        threshold: The least cosine that makes a row a leak.
        progress: Called with the number of rows just looked at.

    Returns:
        Each row with the evaluation image that it has the highest cosine with.

    Raises:
        ValueError: If the threshold is not above 0 and below 1.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"a threshold of {threshold} is not above 0 and below 1")
    found = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))]
    known = np.flatnonzero(usable(evaluation_MD))
    evaluation_MD = evaluation_MD[known]
    looked_at_N = among_N if len(known) else among_N[:0]
    for rows_n, features_nD in streamed(features_of, looked_at_N, progress):
        of_n, cosine_n = nearest(features_nD, evaluation_MD)
        near = np.flatnonzero(cosine_n >= threshold - ROUNDING)
        exact = cosines_of_pairs(features_nD[near], evaluation_MD[of_n[near]])
        is_leak = exact >= threshold
        near = near[is_leak]
        found.append((rows_n[near], known[of_n[near]], exact[is_leak]))
    rows_L, of_L, cosine_L = (np.concatenate(column) for column in zip(*found, strict=True))
    return Leaks(rows_L, of_L, cosine_L.astype(np.float32))
