"""The gradient of a contrastive loss, with the activations of a few rows in memory at a time.

The loss compares every row with every other one, but meets a row only through its features. So the
features of all rows are computed first, without a graph; then the loss and its gradient with
respect to them; then each *micro-batch* is encoded again, with a graph, and the gradient of its
features goes on into the weights (Gao et al., 2021, arXiv 2101.06983). The chain rule makes no
approximation: what comes out is the gradient of the whole batch. It costs one forward more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from selffilter.errors import UserError

FEATURES = ("image_features", "text_features")
"""Outputs with one line a row. The others (scale, bias) are the same for all rows."""


def backward_in_micro_batches(
    encode: Callable[[slice], Mapping[str, Tensor]],
    loss_of: Callable[[Mapping[str, Tensor]], Tensor],
    backward: Callable[[Tensor, bool], None],
    *,
    rows: int,
    micro_batch_size: int,
) -> Tensor:
    """Compute a loss over all rows and send its gradient back, a micro-batch at a time.

    Args:
        encode: Rows → a model's outputs (`FEATURES`, and numbers). Called twice for the same rows,
            and must draw the same random numbers both times.
        loss_of: Outputs for all rows → a scalar.
        backward: Is given a scalar and whether it is the last one; has to add the scalar's
            gradient to those of the weights.
        rows: How many rows there are.
        micro_batch_size: How many of them are encoded at a time; the last may be fewer.

    Returns:
        The loss, detached.
    """
    parts = [
        slice(begin, min(begin + micro_batch_size, rows))
        for begin in range(0, rows, micro_batch_size)
    ]
    with torch.no_grad():
        seen = [encode(part) for part in parts]
    # Autocast keeps its casts of the weights, and older torches those made just now, which lead no
    # gradient back (PyTorch's issues 65766 and 158232; 2.15 has it right).
    torch.clear_autocast_cache()
    leaves = {
        name: _leaf(torch.cat([out[name] for out in seen]) if name in FEATURES else value)
        for name, value in seen[0].items()
    }
    del seen
    loss = loss_of(leaves)
    gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))

    for part in parts:
        last = part is parts[-1]
        # Scale and bias take part in one backward alone: their gradient is complete as it is. In
        # the last one, since that is the one in which DDP waits for every parameter.
        sent = {
            name: gradient[part] if name in FEATURES else gradient
            for name, gradient in gradients.items()
            if name in FEATURES or last
        }
        again = encode(part)
        # The derivative of Σ x·g by x is g.
        carrier = torch.stack(
            [(again[name].to(gradient.dtype) * gradient).sum() for name, gradient in sent.items()]
        ).sum()
        if carrier.requires_grad:
            backward(carrier, last)
    return loss.detach()


def refuse_batch_norm(model: nn.Module) -> None:
    """Check that a model encodes each row by itself.

    Raises:
        UserError: If it has batch norm, whose statistics are of the rows encoded together.
    """
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            raise UserError(
                f"train.micro_batch_size: the model has batch norm ({name}), which mixes the rows "
                "that are encoded together, so that micro-batches would train another model. Set "
                "it to null, use more ranks, or take a model with layer norm."
            )


def _leaf(output: Tensor) -> Tensor:
    """Return a copy from which gradients are wanted, in at least float32."""
    precise = torch.promote_types(output.dtype, torch.float32)
    return output.detach().to(precise, copy=True).requires_grad_()
