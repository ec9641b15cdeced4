"""negCLIPLoss (arXiv 2405.19547), bank form: a pair's score less what its parts get from others.

``score_i = s_ii − R_i`` with
``R_i = (τ/2)·[log mean_j exp(s_ij/τ) + log mean_j exp(s_ji/τ)]``,
j over a seeded bank of M pool rows and the pair itself. Published is the log of the *sum* over
random batches: log-mean differs by the constant τ·log(M+1) and does not depend on M; the bank makes
a score independent of shards, ranks and order. A bank row equal to the scored row is left out, so
that the pair itself stands there exactly once. The published form, for ready embeddings, is in
`selffilter.scoring.permutation`.

A model for the sigmoid loss is given the same formula at its own τ: its bias falls out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from selffilter.scoring.signals.bank_logits import log_sums
from selffilter.scoring.signals.facts import Facts, Pairs
from selffilter.scoring.signals.signal import Need


class NegClipLoss:
    """−τ × the symmetric InfoNCE loss of a pair against the bank, up to a constant."""

    needs: frozenset[Need] = frozenset({"bank"})

    def __call__(self, pairs: Pairs, facts: Facts) -> Tensor:
        """Return the score of each pair, (B,) float32."""
        own_B, to_text_B, to_image_B, count_B = log_sums(pairs, facts)
        log_mean_B = 0.5 * (to_text_B + to_image_B) - torch.log(count_B)
        return own_B - facts.temperature * log_mean_B
