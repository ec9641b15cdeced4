"""The Lightning module: one optimizer step on one global batch."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import ParallelStrategy
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from selffilter.clip.losses import contrastive_loss
from selffilter.randomness import key_from
from selffilter.training.feature_caching import backward_in_micro_batches
from selffilter.training.loss_scale import LossScale

MAX_LOGIT_SCALE = math.log(100)
INPUTS = ("image", "text")
"""What of a batch goes into the model, in this order."""


class ClipTraining(L.LightningModule):
    """Trains a CLIP model; the learning rate and the randomness are functions of the step.

    Args:
        model: An open_clip model with ``output_dict=True``.
        make_optimizer: Parameters of the model → optimizer.
        learning_rate: Step of the run → learning rate.
        seed: The run's seed.
        first_step: Optimizer steps done before.
        ema: Moving average of the weights after these steps.
        ema_decay: Its decay a step; less in the first steps, as in (1 + t) / (10 + t).
        ema_begin: The step at which the weights were fresh, from which t counts.
        clip_grad_norm: Largest norm of all gradients together; None: no clipping.
        micro_batch_size: Rows that a rank encodes at a time; None: all of its part of the global
            batch.
        skipped: How many of the steps before were skipped.
        loss_scale: For fp16; None: none.
        channels_last: Whether images are given channels last, as the model's weights are to be.

    A step whose loss or gradient is not finite is *skipped*: it counts as a step, and leaves
    weights, their average, running statistics and the optimizer as they were. Every rank decides
    the same, and the host is not asked: the fused optimizer reads the decision on the device
    (``found_inf``, as from a gradient scaler). torch's optimizers that are not fused cannot.

    Attributes:
        found_inf: Whether the last step was skipped, 1.0 or 0.0, on the device.
        skips: How many were, and the number of the last such step (-1: none), on the device. A
            gradient that a loss scale can have made overflow does not count.
        loss_scale: As given.
    """

    def __init__(
        self,
        model: nn.Module,
        make_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        learning_rate: Callable[[int], float],
        *,
        seed: int,
        first_step: int,
        ema: dict[str, Tensor],
        ema_decay: float,
        ema_begin: int = 0,
        clip_grad_norm: float | None = None,
        micro_batch_size: int | None = None,
        skipped: int = 0,
        loss_scale: LossScale | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        # By hand, because the clipping and the clamp have an order of their own.
        self.automatic_optimization = False
        self.model = model
        self.step = first_step
        self.ema = ema
        self._make_optimizer = make_optimizer
        self._learning_rate = learning_rate
        self._seed = seed
        self._ema_decay, self._ema_begin = ema_decay, ema_begin
        self._clip_grad_norm = clip_grad_norm
        self._micro_batch_size = micro_batch_size
        self._channels_last = channels_last
        self.loss_scale = loss_scale
        self.found_inf: Tensor
        self.register_buffer("found_inf", torch.zeros([]), persistent=False)
        self.skips: Tensor
        self.register_buffer("skips", torch.tensor([skipped, -1]), persistent=False)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer (Lightning's hook)."""
        return self._make_optimizer(self.model)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Take one step; returns this rank's part of the loss."""
        optimizer: Any = self.optimizers()
        statistics = [(now, now.clone()) for now in _running_statistics(self.model)]
        for group in optimizer.param_groups:
            group["lr"] = self._learning_rate(self.step)
        optimizer.zero_grad()
        loss = self._loss_and_gradients(batch)
        self.found_inf, counts = self._is_not_finite(loss, self._gradient_norm())
        self.optimizers(use_pl_optimizer=False).found_inf = self.found_inf  # type: ignore[union-attr]
        optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)  # type: ignore[operator, union-attr]
            for now, before in statistics:
                now.copy_(torch.where(self.found_inf > 0, before, now))
            one_more = torch.stack([self.skips[0] + 1, torch.full_like(self.skips[1], self.step)])
            self.skips = torch.where(counts > 0, one_more, self.skips)
            if self.loss_scale is not None:
                self.loss_scale.update(self.found_inf)
        self.step += 1
        self._update_ema(1 - self.found_inf)
        return loss

    def _gradient_norm(self) -> Tensor:
        """Return the norm of all gradients together, and clip them to what it may be."""
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.loss_scale is not None:
            self.loss_scale.unscale_(gradients)
        norm = nn.utils.get_total_norm(gradients)
        if self._clip_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, self._clip_grad_norm, norm)
        return norm

    def _is_not_finite(self, loss: Tensor, norm: Tensor) -> tuple[Tensor, Tensor]:
        """Look at the loss and the gradient of all ranks; each is 1.0 or 0.0 on all of them.

        Returns:
            Whether one is not finite, and whether that is nothing that a loss scale can cure.
        """
        bad_loss, bad_norm = ((~torch.isfinite(x)).float() for x in (loss, norm))
        curable = self.loss_scale.is_to_blame if self.loss_scale is not None else 0.0
        incurable = torch.maximum(bad_loss, bad_norm * (1 - curable))
        found = torch.stack([torch.maximum(bad_loss, bad_norm), incurable])
        if dist.is_initialized():
            # The gradient is the same on all ranks; each has a part of the loss of its own.
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return found[0], found[1]

    def transfer_batch_to_device(
        self, batch: dict[str, Tensor], device: torch.device, dataloader_idx: int
    ) -> dict[str, Tensor]:
        """Move a batch; with micro-batches, without what they take along (Lightning's hook)."""
        stays = INPUTS if self._micro_batch_size is not None else ()
        moves = {name: value for name, value in batch.items() if name not in stays}
        moved: dict[str, Tensor] = super().transfer_batch_to_device(moves, device, dataloader_idx)
        return moved | {name: batch[name] for name in stays}

    def _loss_and_gradients(self, batch: dict[str, Tensor]) -> Tensor:
        valid_b = batch["valid"]
        rows, micro = len(valid_b), self._micro_batch_size
        scale = self.loss_scale.scale if self.loss_scale is not None else 1.0
        first = rows * (dist.get_rank() if dist.is_initialized() else 0)

        def encode(part: slice) -> dict[str, Tensor]:
            # Of the place in the global batch: as many rows at a time draw the same on any number
            # of ranks. torch seeds the accelerators' generators along with its own.
            torch.manual_seed(key_from(self._seed, "step", self.step, first + part.start))
            image, text = (batch[name][part].to(self.device, non_blocking=True) for name in INPUTS)
            if self._channels_last:
                image = image.contiguous(memory_format=torch.channels_last)
            out: dict[str, Tensor] = self.model(image, text)
            return out

        def loss_of(out: Mapping[str, Tensor]) -> Tensor:
            with torch.autocast(self.device.type, enabled=False):
                return contrastive_loss(out, valid_b, micro) * scale

        if micro is None or micro >= rows:
            loss = loss_of(encode(slice(0, rows)))
            self.manual_backward(loss)
            return loss.detach() / scale
        loss = backward_in_micro_batches(
            encode, loss_of, self._add_gradients, rows=rows, micro_batch_size=micro
        )
        return loss / scale

    def _add_gradients(self, carrier: Tensor, last: bool) -> None:
        strategy = self.trainer.strategy
        # The ranks exchange gradients once, when all of them are there.
        waits = isinstance(strategy, ParallelStrategy) and not last
        with strategy.block_backward_sync() if waits else contextlib.nullcontext():  # type: ignore[attr-defined]
            self.manual_backward(carrier)

    @torch.no_grad()
    def _update_ema(self, taken: Tensor | float = 1.0) -> None:
        t = self.step - self._ema_begin
        decay = min(self._ema_decay, (1 + t) / (10 + t))
        current = self.model.state_dict()
        moving = [name for name, value in current.items() if value.is_floating_point()]
        averages = [self.ema[name] for name in moving]
        # Not `_foreach_lerp_`: its weight would have to come to the host.
        towards = torch._foreach_sub([current[name].float() for name in moving], averages)
        torch._foreach_mul_(towards, (1 - decay) * taken)
        torch._foreach_add_(averages, towards)


def _running_statistics(model: nn.Module) -> list[Tensor]:
    """Return the buffers that a forward of training changes: those of batch norm."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    return [buffer for norm in norms for buffer in norm.buffers()]


def fresh_ema(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the weights, in float32, to average from."""
    return {
        name: value.detach().float().clone() if value.is_floating_point() else value.clone()
        for name, value in model.state_dict().items()
    }


def adamw(
    model: nn.Module, *, betas: tuple[float, float], eps: float, weight_decay: float
) -> torch.optim.AdamW:
    """Return fused AdamW with open_clip's groups: no decay on gains, biases and the logit scale."""

    def undecayed(name: str, parameter: Tensor) -> bool:
        return parameter.ndim < 2 or any(w in name for w in ("bn", "ln", "bias", "logit_scale"))

    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for n, p in named if undecayed(n, p)], "weight_decay": 0.0},
        {"params": [p for n, p in named if not undecayed(n, p)], "weight_decay": weight_decay},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=eps, fused=True)
