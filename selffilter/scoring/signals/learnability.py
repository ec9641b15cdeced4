"""Learnability (RHO-LOSS, arXiv 2206.07137; JEST, arXiv 2406.17711).

``score_i = loss_i(learner) − loss_i(reference)``: what the learner finds hard and the reference
easy. The loss of a pair is minus its log-probability (see `pair_probability`), each model at its
own temperature and against the same bank rows encoded by itself; in nats. With the previous round's
model as the reference no pre-trained model is needed; the score is then how much worse the learner
does on a pair than the model before it did.
"""

from __future__ import annotations

from torch import Tensor

from selffilter.scoring.signals.facts import Facts, Pairs
from selffilter.scoring.signals.pair_probability import log_probability
from selffilter.scoring.signals.signal import Need


class Learnability:
    """Log-probability under the reference less that under the learner."""

    needs: frozenset[Need] = frozenset({"bank", "reference"})

    def __call__(self, pairs: Pairs, facts: Facts) -> Tensor:
        """Return the score of each pair, (B,) float32."""
        if pairs.reference is None or facts.reference is None:
            raise ValueError("learnability needs a reference model")
        return log_probability(pairs.reference, facts.reference) - log_probability(pairs, facts)
