"""The softmax contrastive loss, exact across ranks, with rows masked that are not valid.

Radford et al., 2021 (CLIP): for B pairs with unit features u_i, v_i and scale s = 1/τ,
``loss = mean_i ½·(CE_i(s·u_i·V) + CE_i(s·v_i·U))``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F


class _Gather(torch.autograd.Function):
    """Concatenate a tensor over the ranks; the gradient of each part is summed over the ranks."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        parts = [torch.empty_like(local) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, local.contiguous())
        ctx.local_size = len(local)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].contiguous()
        dist.all_reduce(total)
        start = dist.get_rank() * ctx.local_size
        return total[start : start + ctx.local_size]


def gather(local: Tensor) -> Tensor:
    """Return the tensors of all ranks, in rank order, with gradients through; alone: itself."""
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return local
    return _Gather.apply(local)  # type: ignore[no-any-return, no-untyped-call]


def contrastive_loss(
    image_features_bD: Tensor,
    text_features_bD: Tensor,
    logit_scale: Tensor,
    valid_b: Tensor,
) -> Tensor:
    """Return this rank's part of the loss over the global batch.

    Each rank computes the logits of its own b rows against all B. The parts are scaled so that
    their *mean* over the ranks is the loss over the global batch; as DDP averages gradients, so
    are the gradients. Rows that are not valid count neither as sample nor as negative; the loss is
    normalised by the global number of valid rows.

    Args:
        image_features_bD: Unit-norm features of this rank's rows; b is equal on all ranks.
        text_features_bD: Likewise.
        logit_scale: exp of the learnt scale, 1/τ; a scalar.
        valid_b: (b,) bool.

    Returns:
        A scalar in at least float32; 0 (with zero gradients) if no row is valid anywhere.
    """
    precise = torch.promote_types(image_features_bD.dtype, torch.float32)
    image_bD, text_bD = image_features_bD.to(precise), text_features_bD.to(precise)
    image_BD, text_BD = gather(image_bD), gather(text_bD)
    valid_B = gather(valid_b.to(torch.uint8)).bool()
    ranks = len(valid_B) // len(valid_b)
    rank = dist.get_rank() if ranks > 1 else 0
    target_b = torch.arange(len(valid_b), device=valid_b.device) + rank * len(valid_b)

    scale = logit_scale.to(precise)
    dead_B = torch.where(valid_B, 0.0, -torch.inf).to(precise)
    loss_b = 0.5 * (
        _cross_entropy(scale * image_bD @ text_BD.T + dead_B, target_b, valid_b)
        + _cross_entropy(scale * text_bD @ image_BD.T + dead_B, target_b, valid_b)
    )
    return ranks * loss_b.sum() / valid_B.sum().clamp(min=1)


def _cross_entropy(logits_bB: Tensor, target_b: Tensor, valid_b: Tensor) -> Tensor:
    # Indexing, not multiplying by 0: a dead row's own logit is -inf, and 0·inf would be nan.
    if not bool(valid_b.any()):
        # Without a valid row here the graph must still reach the features: the other ranks wait
        # for our part in the backward of the gather.
        return 0.0 * torch.nan_to_num(logits_bB, neginf=0.0).sum().reshape(1)
    return F.cross_entropy(logits_bB[valid_b], target_b[valid_b], reduction="none")
