"""The contrastive losses, exact across ranks, with rows masked that are not valid.

For B pairs with unit features u_i, v_i, of which V are valid, and the scale s = exp(logit_scale):

- softmax (Radford et al., 2021, CLIP):
  ``1/V · Σ_i ½·(CE_i(s·u_i·v_1, …, s·u_i·v_B) + CE_i(s·v_i·u_1, …, s·v_i·u_B))``;
- sigmoid (Zhai et al., 2023, SigLIP), with a bias b:
  ``−1/V · Σ_i Σ_j log σ(y_ij·(s·u_i·v_j + b))``, y_ij = 1 where i = j and −1 elsewhere.

All sums are over valid rows alone. Each rank computes its own b rows against all B; the parts are
scaled so that their *mean* over the ranks is the loss of the global batch. As DDP averages
gradients, so are they, those of scale and bias too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


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
        # A copy: autograd may have given the same tensor to others.
        total = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        start = dist.get_rank() * ctx.local_size
        return total[start : start + ctx.local_size]


def gather(local: Tensor) -> Tensor:
    """Return the tensors of all ranks, in rank order, with gradients through; alone: itself."""
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return local
    return _Gather.apply(local)  # type: ignore[no-any-return, no-untyped-call]


def contrastive_loss(
    outputs: Mapping[str, Tensor], valid_b: Tensor, rows_at_once: int | None = None
) -> Tensor:
    """Return this rank's part of the loss that a model is for.

    Args:
        outputs: What an open_clip model with ``output_dict=True`` gives for this rank's rows:
            ``image_features``, ``text_features``, ``logit_scale`` (exp of the learnt number), and
            for the sigmoid loss ``logit_bias``.
        valid_b: See `softmax_loss`.
        rows_at_once: See `softmax_loss`.

    Returns:
        `sigmoid_loss` for a model with a bias, `softmax_loss` for one without.
    """
    image_bD, text_bD = outputs["image_features"], outputs["text_features"]
    scale, bias = outputs["logit_scale"], outputs.get("logit_bias")
    if bias is None:
        return softmax_loss(image_bD, text_bD, scale, valid_b, rows_at_once)
    return sigmoid_loss(image_bD, text_bD, scale, bias, valid_b, rows_at_once)


def softmax_loss(
    image_features_bD: Tensor,
    text_features_bD: Tensor,
    logit_scale: Tensor,
    valid_b: Tensor,
    rows_at_once: int | None = None,
) -> Tensor:
    """Return this rank's part of CLIP's loss over the global batch.

    Args:
        image_features_bD: Unit-norm features of this rank's rows; b is equal on all ranks.
        text_features_bD: Likewise.
        logit_scale: exp of the learnt scale, 1/τ; one number.
        valid_b: (b,) bool. Other rows count neither as sample nor as negative.
        rows_at_once: How many of the b rows have their B logits in memory at the same time; they
            are computed again for the gradient. None: all, once.

    Returns:
        A scalar in at least float32; 0 (with zero gradients) if no row is valid anywhere.
    """
    image_bD, text_bD = _precise(image_features_bD), _precise(text_features_bD)
    both_B2D = gather(torch.stack((image_bD, text_bD), dim=1))
    image_BD, text_BD = both_B2D.unbind(1)
    place_b, valid_B = _places(valid_b)
    scale = logit_scale.to(image_bD.dtype)
    # Where no row is valid nothing is masked: a row of -inf alone has no softmax, and its gradient
    # would be nan though it counts for nothing.
    dead_B = ~valid_B & valid_B.any()
    target_b = torch.where(valid_b, place_b, _IGNORED)

    def of_rows(image_nD: Tensor, text_nD: Tensor, target_n: Tensor) -> Tensor:
        def cross_entropy(own_nD: Tensor, other_BD: Tensor) -> Tensor:
            logits_nB = (scale * own_nD @ other_BD.T).masked_fill(dead_B, -torch.inf)
            return F.cross_entropy(logits_nB, target_n, ignore_index=_IGNORED, reduction="sum")

        return 0.5 * (cross_entropy(image_nD, text_BD) + cross_entropy(text_nD, image_BD))

    return _mean(of_rows, rows_at_once, (image_bD, text_bD, target_b), valid_B)


def sigmoid_loss(
    image_features_bD: Tensor,
    text_features_bD: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    valid_b: Tensor,
    rows_at_once: int | None = None,
) -> Tensor:
    """Return this rank's part of SigLIP's loss over the global batch.

    Args:
        image_features_bD: See `softmax_loss`.
        text_features_bD: See `softmax_loss`.
        logit_scale: exp of the learnt scale; one number.
        logit_bias: The learnt bias b; one number.
        valid_b: See `softmax_loss`.
        rows_at_once: See `softmax_loss`.

    Returns:
        A scalar in at least float32; 0 (with zero gradients) if no row is valid anywhere.
    """
    image_bD = _precise(image_features_bD)
    text_BD = gather(_precise(text_features_bD))
    place_b, valid_B = _places(valid_b)
    scale, bias = logit_scale.to(image_bD.dtype), logit_bias.to(image_bD.dtype)
    place_B = torch.arange(len(valid_B), device=valid_b.device)

    def of_rows(image_nD: Tensor, place_n: Tensor, valid_n: Tensor) -> Tensor:
        logits_nB = scale * image_nD @ text_BD.T + bias
        signed_nB = torch.where(place_n[:, None] == place_B, logits_nB, -logits_nB)
        counts_nB = valid_n[:, None] & valid_B
        return -F.logsigmoid(signed_nB).masked_fill(~counts_nB, 0).sum()

    return _mean(of_rows, rows_at_once, (image_bD, place_b, valid_b), valid_B)


_IGNORED = -100


def _precise(features_bD: Tensor) -> Tensor:
    return features_bD.to(torch.promote_types(features_bD.dtype, torch.float32))


def _places(valid_b: Tensor) -> tuple[Tensor, Tensor]:
    """Return where this rank's rows stand in the global batch, and which of all rows are valid."""
    valid_B = gather(valid_b.to(torch.uint8)).bool()
    first = dist.get_rank() * len(valid_b) if len(valid_B) > len(valid_b) else 0
    return torch.arange(len(valid_b), device=valid_b.device) + first, valid_B


def _mean(
    of_rows: Callable[..., Tensor],
    rows_at_once: int | None,
    tensors_b: tuple[Tensor, ...],
    valid_B: Tensor,
) -> Tensor:
    """Sum a loss over this rank's rows; divide by the global count; scale by the ranks."""
    rows = len(tensors_b[0])
    ranks = len(valid_B) // rows
    if rows_at_once is None or rows_at_once >= rows:
        total = of_rows(*tensors_b)
    else:
        parts = zip(*(tensor.split(rows_at_once) for tensor in tensors_b), strict=True)
        total = torch.stack(
            [
                checkpoint(of_rows, *part, use_reentrant=False, preserve_rng_state=False)
                for part in parts
            ]
        ).sum()
    return ranks * total / valid_B.sum().clamp(min=1)
