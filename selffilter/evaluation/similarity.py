"""Similarities that equal pairs share to the last bit, so that a tie is seen as one."""

from __future__ import annotations

from torch import Tensor


def similarities(left_AD: Tensor, right_BD: Tensor) -> Tensor:
    """Return the inner products of all pairs.

    Summed in float64 and rounded once: a float32 product of two equal rows can differ in the last
    bit with their place in the matrix, and a model that tells nothing apart would win by chance.

    Args:
        left_AD: (A, D) floating point, unit norm.
        right_BD: (B, D) likewise, on the same device.

    Returns:
        (A, B) float32.
    """
    return (left_AD.double() @ right_BD.double().T).float()
