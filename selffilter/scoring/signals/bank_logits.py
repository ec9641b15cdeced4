"""Pairs against the bank, in float32, with the log-sum-exp that cannot overflow."""

from __future__ import annotations

import torch
from torch import Tensor

from selffilter.scoring.signals.facts import Facts, Pairs


def log_sums(pairs: Pairs, facts: Facts) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compare pairs with the bank and with themselves.

    Raises:
        ValueError: If there is no bank.

    Returns:
        ``s_ii``; ``log Σ_j exp(s_ij/τ)`` over captions j; the same over images j; and the number
        of terms in each sum. All (B,) float32. The sums run over the pair itself and every bank
        row but that same row.
    """
    if facts.bank is None:
        raise ValueError("this signal needs a bank")
    bank, tau = facts.bank, facts.temperature
    image_BD, text_BD = pairs.image_features_BD, pairs.text_features_BD
    own_B = (image_BD * text_BD).sum(dim=-1)
    same_BM = pairs.row_B[:, None] == bank.row_M[None, :]
    sums = [
        torch.logsumexp(
            torch.cat([(features @ others.T).masked_fill(same_BM, -torch.inf), own_B[:, None]], 1)
            / tau,
            dim=1,
        )
        for features, others in (
            (image_BD, bank.text_features_MD),
            (text_BD, bank.image_features_MD),
        )
    ]
    count_B = (~same_BM).sum(dim=1) + 1
    return own_B, sums[0], sums[1], count_B.float()
