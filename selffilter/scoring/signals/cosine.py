"""The CLIP score: the cosine of a pair."""

from __future__ import annotations

from torch import Tensor

from selffilter.scoring.signals.facts import Facts, Pairs
from selffilter.scoring.signals.signal import Need


class Cosine:
    """``s_ii = u_i · v_i``, in [-1, 1]."""

    needs: frozenset[Need] = frozenset()

    def __call__(self, pairs: Pairs, facts: Facts) -> Tensor:
        """Return the cosine of each pair, (B,) float32."""
        return (pairs.image_features_BD * pairs.text_features_BD).sum(dim=-1)
