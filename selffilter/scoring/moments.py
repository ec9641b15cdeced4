"""Uncentred second moments of a set of pairs, Σ, summed in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Kind = Literal["image", "text", "cross"]
"""Which features: ``(1/M) Σ u uᵀ``, ``(1/M) Σ v vᵀ``, or ``(1/M) Σ u vᵀ``."""

_ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class SecondMoments:
    """Σ of M pairs.

    Attributes:
        count: M.
        sums: By kind the sum over the pairs (not the mean), (D, D) float64; without captions there
            is ``image`` alone.
    """

    count: int
    sums: dict[Kind, Tensor]

    @classmethod
    def of(cls, image_features_MD: Tensor, text_features_MD: Tensor | None = None) -> SecondMoments:
        """Return the moments of some pairs, or of images alone."""
        adding = MomentSums()
        parts = image_features_MD.split(_ROWS_AT_ONCE)
        texts = text_features_MD.split(_ROWS_AT_ONCE) if text_features_MD is not None else None
        for place, part in enumerate(parts):
            adding.add(part, texts[place] if texts else None)
        return adding.moments()

    def sigma(self, kind: Kind) -> Tensor:
        """Return Σ, (D, D) float64.

        Raises:
            ValueError: If captions are asked for and there were none.
        """
        if kind not in self.sums:
            raise ValueError(f"there are no captions in this set: it has no moments of {kind!r}")
        return self.sums[kind] / self.count

    def quadratic(self, left_BD: Tensor, right_BD: Tensor, kind: Kind) -> Tensor:
        """Return ``left_iᵀ Σ right_i``, (B,), in the features' dtype."""
        sigma_DD = self.sigma(kind).to(left_BD)
        return ((left_BD @ sigma_DD) * right_BD).sum(dim=-1)


class MomentSums:
    """Adds up the moments of a set that comes in parts."""

    def __init__(self) -> None:
        self._count = 0
        self._sums: dict[Kind, Tensor] = {}

    def add(self, image_nD: Tensor, text_nD: Tensor | None = None) -> None:
        """Add some pairs; what is summed is float64."""
        if not len(image_nD):
            return
        self._count += len(image_nD)
        image_nD = image_nD.double()
        self._add("image", image_nD.T @ image_nD)
        if text_nD is not None:
            text_nD = text_nD.double()
            self._add("text", text_nD.T @ text_nD)
            self._add("cross", image_nD.T @ text_nD)

    def moments(self) -> SecondMoments:
        """Return what was added up.

        Raises:
            ValueError: If that is nothing.
        """
        if not self._count:
            raise ValueError("a set without a usable row has no second moments")
        return SecondMoments(self._count, self._sums)

    def _add(self, kind: Kind, product_DD: Tensor) -> None:
        self._sums[kind] = self._sums[kind] + product_DD if kind in self._sums else product_DD
