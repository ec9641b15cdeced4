"""Cosines that are compared: with each other, or with a threshold; a block of them at a time.

A matrix product in float32 gives other last bits with another number of rows, another number of
threads, another processor. What would turn on them is computed again in float64. So which of two
centroids is nearer, and whether two images are alike, depend on the features alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from selffilter.selecting.scratch import chunks

Features = NDArray[np.float32]

FeaturesOf = Callable[[NDArray[np.int64]], Features]
"""Rows, in any order → their features, (n, D) float32, unit-norm; NaN along a row without any."""

ROUNDING = 1e-5
"""More than the error of a float32 cosine of unit-norm features, which is about 1e-7."""

_COSINES_AT_ONCE = 1 << 24  # 64 MiB of float32
_ROWS_AT_ONCE = 1 << 14
_READ_AT_ONCE = 1 << 20  # rows whose marks are looked at together


def streamed(
    features_of: FeaturesOf,
    among_N: NDArray[np.bool_],
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[tuple[NDArray[np.int64], Features]]:
    """Yield some rows and their features at a time, ascending.

    Args:
        features_of: Where from.
        among_N: Which rows, (N,) bool.
        progress: Called with the number of rows that the caller is done with.
    """
    for part in chunks(len(among_N), _READ_AT_ONCE):
        rows_M = part.start + np.flatnonzero(among_N[part])
        for some in chunks(len(rows_M), _ROWS_AT_ONCE):
            yield rows_M[some], features_of(rows_M[some])
            progress(some.stop - some.start)


def usable(features_nD: Features) -> NDArray[np.bool_]:
    """Tell which rows have features, (n,) bool."""
    return np.isfinite(np.add.reduce(features_nD, axis=1))


def nearest(features_nD: Features, others_KD: Features) -> tuple[NDArray[np.int32], Features]:
    """Find which of some others each row has the highest cosine with.

    Cosines that are equal to twelve digits tie; ties go to the lowest index.

    Args:
        features_nD: Unit-norm, float32; NaN along a row that has no features.
        others_KD: Unit-norm, float32, finite, at least one.

    Returns:
        Index, (n,) int32, -1 for a row without features; and cosine, (n,) float32, NaN for it, good
        to about 1e-6.
    """
    index_n = np.empty(len(features_nD), np.int32)
    cosine_n = np.empty(len(features_nD), np.float32)
    for part in _blocks(len(features_nD), len(others_KD)):
        cosine_bK = features_nD[part] @ others_KD.T
        index_b = cosine_bK.argmax(axis=1)
        cosine_b = cosine_bK[np.arange(len(index_b)), index_b]
        rivals_b = np.count_nonzero(cosine_bK >= (cosine_b - ROUNDING)[:, None], axis=1)
        unsure = np.flatnonzero(rivals_b > 1)
        if len(unsure):
            exact = features_nD[part][unsure].astype(np.float64) @ others_KD.T.astype(np.float64)
            index_b[unsure] = exact.round(12).argmax(axis=1)  # equal others are to be equal
        index_n[part] = np.where(np.isnan(cosine_b), -1, index_b)
        cosine_n[part] = cosine_b
    return index_n, cosine_n


def first_within(features_nD: Features, others_KD: Features, threshold: float) -> NDArray[np.int64]:
    """Find the first of some others whose cosine with a row is at least a threshold.

    Returns:
        Index, (n,) int64; -1 where there is none.
    """
    first_n = np.full(len(features_nD), -1, np.int64)
    if len(others_KD):
        for part in _blocks(len(features_nD), len(others_KD)):
            alike_bK = alike(features_nD[part], others_KD, threshold)
            some_b = alike_bK.any(axis=1)
            first_n[part][some_b] = alike_bK[some_b].argmax(axis=1)
    return first_n


def alike(features_nD: Features, others_KD: Features, threshold: float) -> NDArray[np.bool_]:
    """Tell which cosines are at least a threshold, all n·K at a time.

    Returns:
        (n, K) bool; False for a row without features.
    """
    cosine_nK = features_nD @ others_KD.T
    alike_nK: NDArray[np.bool_] = cosine_nK >= threshold - ROUNDING
    unsure = np.flatnonzero(alike_nK & (cosine_nK < threshold + ROUNDING))
    for part in _blocks(len(unsure), 2 * features_nD.shape[1]):
        rows, others = np.divmod(unsure[part], len(others_KD))
        exact = cosines_of_pairs(features_nD[rows], others_KD[others])
        alike_nK[rows, others] = exact >= threshold
    return alike_nK


def cosines_of_pairs(features_nD: Features, others_nD: Features) -> NDArray[np.float64]:
    """Return the cosine of each row with its other, (n,) float64."""
    cosines: NDArray[np.float64] = np.einsum(
        "nd,nd->n", features_nD.astype(np.float64), others_nD.astype(np.float64)
    )
    return cosines


def _blocks(rows: int, cosines_a_row: int) -> Iterator[slice]:
    return chunks(rows, max(1, _COSINES_AT_ONCE // cosines_a_row))
