"""The CLIP score: the cosine of a pair."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class Cosine:
    """``s_ii = u_i · v_i``, in [-1, 1]."""

    needs_bank = False

    def __call__(
        self, image_features_BD: Tensor, text_features_BD: Tensor, row_B: Tensor, facts: Any
    ) -> Tensor:
        """Return the cosine of each pair, (B,) float32."""
        return (image_features_BD * text_features_BD).sum(dim=-1)
