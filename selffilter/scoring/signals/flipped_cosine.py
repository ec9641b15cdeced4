"""The CLIP score of the mirrored image: a guard against text in the image.

A model that reads gives a picture of words a high cosine with a caption of the same words. Mirrored
words are hard to read, mirrored things are the same things: so what a picture shows keeps its score
and what is written on it loses it.
"""

from __future__ import annotations

from torch import Tensor

from selffilter.scoring.signals.facts import Facts, Pairs
from selffilter.scoring.signals.signal import Need


class FlippedCosine:
    """``u'_i · v_i`` with u'_i of the image mirrored left to right, in [-1, 1]."""

    needs: frozenset[Need] = frozenset({"flipped"})

    def __call__(self, pairs: Pairs, facts: Facts) -> Tensor:
        """Return the cosine of each caption with its mirrored image, (B,) float32."""
        if pairs.flipped_image_features_BD is None:
            raise ValueError("flipped_cosine needs features of the mirrored images")
        return (pairs.flipped_image_features_BD * pairs.text_features_BD).sum(dim=-1)
