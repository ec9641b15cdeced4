"""How probable the model finds it that a caption belongs to its image, and the reverse.

``score_i = ½·(log p(v_i | u_i) + log p(u_i | v_i))``, the softmax at the learner's own temperature
over a seeded bank of pool rows and the pair itself: in nats, at most 0. It is the negative
contrastive loss of the pair; unlike negCLIPLoss it is not multiplied by τ, so that the values of
different rounds are on one scale.
"""

from __future__ import annotations

from torch import Tensor

from selffilter.scoring.bank_logits import log_sums
from selffilter.scoring.facts import Facts


class PairProbability:
    """Mean log-probability of the pair in both directions."""

    needs_bank = True

    def __call__(
        self, image_features_BD: Tensor, text_features_BD: Tensor, row_B: Tensor, facts: Facts
    ) -> Tensor:
        """Return the score of each pair, (B,) float32."""
        own_B, to_text_B, to_image_B, _ = log_sums(
            image_features_BD, text_features_BD, row_B, facts
        )
        return own_B / facts.temperature - 0.5 * (to_text_B + to_image_B)
