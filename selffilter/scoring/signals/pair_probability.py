"""How probable the model finds it that a caption belongs to its image, and the reverse.

Softmax models: ``score_i = ½·(log p(v_i | u_i) + log p(u_i | v_i))``, the softmax at the learner's
own temperature over a seeded bank of pool rows and the pair itself: in nats, at most 0. It is the
negative contrastive loss of the pair; unlike negCLIPLoss it is not multiplied by τ, so that the
values of different rounds are on one scale.

Sigmoid models (those with a logit bias b) give each pair a probability by itself,
``p_i = σ(s_ii/τ + b)`` (Zhai et al., 2023): ``score_i = log p_i``, and the bank is not looked at.
It orders the pairs as the cosine does.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from selffilter.scoring.signals.bank_logits import log_sums
from selffilter.scoring.signals.facts import Facts, Pairs
from selffilter.scoring.signals.signal import Need


def log_probability(pairs: Pairs, facts: Facts) -> Tensor:
    """Return the log-probability of each pair in nats, (B,) float32."""
    if facts.logit_bias is not None:
        own_B = (pairs.image_features_BD * pairs.text_features_BD).sum(dim=-1)
        return F.logsigmoid(own_B / facts.temperature + facts.logit_bias)
    own_B, to_text_B, to_image_B, _ = log_sums(pairs, facts)
    return own_B / facts.temperature - 0.5 * (to_text_B + to_image_B)


class PairProbability:
    """Mean log-probability of the pair in both directions."""

    needs: frozenset[Need] = frozenset({"bank"})

    def __call__(self, pairs: Pairs, facts: Facts) -> Tensor:
        """Return the score of each pair, (B,) float32."""
        return log_probability(pairs, facts)
