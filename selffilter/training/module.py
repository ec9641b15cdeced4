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

from selffilter.clip.losses import contrastive_loss
from selffilter.randomness import key_from
from selffilter.training.feature_caching import backward_in_micro_batches

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

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer (Lightning's hook)."""
        return self._make_optimizer(self.model)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Take one step; returns this rank's part of the loss."""
        optimizer: Any = self.optimizers()
        for group in optimizer.param_groups:
            group["lr"] = self._learning_rate(self.step)
        optimizer.zero_grad()
        loss = self._loss_and_gradients(batch)
        if self._clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self._clip_grad_norm)
        optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)  # type: ignore[operator, union-attr]
        self.step += 1
        self._update_ema()
        return loss

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
        first = rows * (dist.get_rank() if dist.is_initialized() else 0)

        def encode(part: slice) -> dict[str, Tensor]:
            # Of the place in the global batch: as many rows at a time draw the same on any number
            # of ranks. torch seeds the accelerators' generators along with its own.
            torch.manual_seed(key_from(self._seed, "step", self.step, first + part.start))
            inputs = (batch[name][part].to(self.device, non_blocking=True) for name in INPUTS)
            out: dict[str, Tensor] = self.model(*inputs)
            return out

        def loss_of(out: Mapping[str, Tensor]) -> Tensor:
            with torch.autocast(self.device.type, enabled=False):
                return contrastive_loss(out, valid_b, micro)

        if micro is None or micro >= rows:
            loss = loss_of(encode(slice(0, rows)))
            self.manual_backward(loss)
            return loss.detach()
        return backward_in_micro_batches(
            encode, loss_of, self._add_gradients, rows=rows, micro_batch_size=micro
        )

    def _add_gradients(self, carrier: Tensor, last: bool) -> None:
        strategy = self.trainer.strategy
        # The ranks exchange gradients once, when all of them are there.
        waits = isinstance(strategy, ParallelStrategy) and not last
        with strategy.block_backward_sync() if waits else contextlib.nullcontext():  # type: ignore[attr-defined]
            self.manual_backward(carrier)

    @torch.no_grad()
    def _update_ema(self) -> None:
        t = self.step - self._ema_begin
        decay = min(self._ema_decay, (1 + t) / (10 + t))
        current = self.model.state_dict()
        moving = [name for name, value in current.items() if value.is_floating_point()]
        averages = [self.ema[name] for name in moving]
        torch._foreach_lerp_(averages, [current[name].float() for name in moving], 1 - decay)


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
