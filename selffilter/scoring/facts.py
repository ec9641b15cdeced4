"""What a signal may want to know of the scoring model besides a row's features."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Bank:
    """Pairs of the pool that others are compared with, encoded by the model that scores.

    Attributes:
        image_features_MD: Unit-norm, float32.
        text_features_MD: Likewise.
        row_M: Which rows they are, int64.
    """

    image_features_MD: Tensor
    text_features_MD: Tensor
    row_M: Tensor


@dataclass(frozen=True)
class Facts:
    """The model's temperature, and the bank if the signal asked for one.

    Attributes:
        temperature: τ = 1/logit_scale.exp().
        bank: None for signals with ``needs_bank = False``.
    """

    temperature: float
    bank: Bank | None
