"""One round of training: a fresh Lightning Trainer from one state to the next.

A Trainer that has reached its end does nothing when asked to fit again, and a resume inside an
epoch restarts iterable loaders at item 0 (lightning 2.6.6). So every fit is a fresh Trainer, the
position is the optimizer step alone, and the loader is built from it.
"""

from __future__ import annotations

import itertools
import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from selffilter.clip.model import temperature
from selffilter.errors import StoreGone
from selffilter.interrupt import Stopped
from selffilter.pool.prefetch import Ahead, NoAhead
from selffilter.pool.reading import BatchRequest, PoolDataset, loader_over
from selffilter.pool.row_reader import Reads
from selffilter.team import Team
from selffilter.training.batch_plan import BatchPlan
from selffilter.training.module import ClipTraining
from selffilter.training.state import TrainState


@dataclass(frozen=True)
class StepReport:
    """How training stands; made every `report_every` steps, on rank 0.

    Attributes:
        step: Optimizer steps of the run.
        loss: Mean over the global batches since the last report.
        learning_rate: Of the last step.
        logit_scale: 1/τ after it.
        valid: Share of valid rows since the last report.
        samples_per_s: Over all ranks, since the last report.
        data_wait: Share of that time spent waiting for data.
        read_mb: Megabytes read from shards since the last report, over all ranks.
        read_requests: In so many requests.
        read_ahead: Share of the bytes that batches wanted which lay here already.
    """

    step: int
    loss: float
    learning_rate: float
    logit_scale: float
    valid: float
    samples_per_s: float
    data_wait: float
    read_mb: float
    read_requests: int
    read_ahead: float


@dataclass(frozen=True)
class Segment:
    """The steps of one round.

    Attributes:
        plan: Its batches.
        begin: The run's step at which the round begins.
        end: … and ends.
    """

    plan: BatchPlan
    begin: int
    end: int


class PlanSampler:
    """The requests of one rank for the steps that are left of a round.

    As a window of the plan is entered, what this node needs of the next one is asked for.
    """

    def __init__(self, segment: Segment, first_step: int, team: Team, ahead: Ahead) -> None:
        self._segment, self._first, self._team = segment, first_step, team
        self._ahead = ahead

    def __len__(self) -> int:
        return self._segment.end - self._first

    def __iter__(self) -> Iterator[BatchRequest]:
        plan, begin, team = self._segment.plan, self._segment.begin, self._team
        stretches = plan.stretches(self._first - begin, self._segment.end - begin)
        for now, then in itertools.pairwise(itertools.chain(stretches, [range(0)])):
            if then and not isinstance(self._ahead, NoAhead):
                node = team.rank // team.local_size
                wanted = [plan.rank_batch(step, node, team.nodes) for step in then]
                self._ahead.want(np.concatenate(wanted))
            for step in now:
                rows_b = plan.rank_batch(step, team.rank, team.size)
                yield BatchRequest(rows_b, step + begin)


class PoolData(L.LightningDataModule):
    """The data of a segment, as Lightning wants it."""

    def __init__(self, dataset: PoolDataset, sampler: PlanSampler, workers: int) -> None:
        super().__init__()
        self._dataset, self._sampler, self._workers = dataset, sampler, workers

    def train_dataloader(self) -> Any:
        """Return the loader over the steps that are left (Lightning's hook)."""
        return loader_over(self._dataset, self._sampler, self._workers)


class _Watch(L.Callback):
    """Reports and checkpoints between two steps, when the state is whole."""

    def __init__(
        self,
        team: Team,
        report: Callable[[StepReport], None],
        checkpoint: Callable[[TrainState], None],
        *,
        report_every: int,
        checkpoint_every: int,
        should_stop: Callable[[], bool],
        ahead: Ahead,
    ) -> None:
        self._team = team
        self._ahead, self._fetched = ahead, Reads()
        self._report, self._report_every = report, report_every
        self._checkpoint, self._checkpoint_every = checkpoint, checkpoint_every
        self._should_stop = should_stop
        self._on_sigterm = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: Any, module: Any) -> None:
        # Lightning puts a handler of its own before ours, which broadcasts from inside the signal
        # and ends the fit before anything is saved (2.6.6). The stop is ours to agree on.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_sigterm)
        self._restart_counts(module.device)
        self._batch_end = time.perf_counter()

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        self._waited += time.perf_counter() - self._batch_end

    def on_train_batch_end(
        self, trainer: Any, module: ClipTraining, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        self._sums += torch.stack(
            [loss.float(), batch["valid"].float().mean(), torch.ones_like(loss)]
        )
        self._reads += batch["reads"]
        self._samples += len(batch["row"]) * self._team.size
        # Alone: at once. With others: at a report, where all learn of it at the same step.
        stop = self._team.size == 1 and self._should_stop()
        if module.step % self._report_every == 0:
            stop = self._make_report(module) or stop
        if self._team.is_main and (stop or module.step % self._checkpoint_every == 0):
            _refuse_nonfinite(float(self._sums[0]), module.step)
            self._checkpoint(snapshot(module))
        if stop:
            raise Stopped
        self._batch_end = time.perf_counter()

    def on_exception(self, trainer: Any, module: ClipTraining, exception: BaseException) -> None:
        # A batch could not be read: the state is that of the step before it, and whole.
        if isinstance(exception, StoreGone) and self._team.is_main:
            self._checkpoint(snapshot(module))

    def on_train_end(self, trainer: Any, module: ClipTraining) -> None:
        if self._samples:
            self._make_report(module)

    def _make_report(self, module: ClipTraining) -> bool:
        """Report on rank 0; returns whether any rank was asked to stop."""
        asked = torch.tensor([float(self._should_stop())], device=module.device)
        sums = torch.cat([self._sums, asked])
        fetched = self._ahead.reads()
        self._reads += torch.tensor(list(vars(fetched.since(self._fetched)).values())).to(
            module.device
        )
        self._fetched = fetched
        if dist.is_initialized():
            dist.all_reduce(sums)
            dist.all_reduce(self._reads)
        loss, valid = (sums[:2] / sums[2]).tolist()
        _refuse_nonfinite(loss, module.step)
        reads = Reads(*self._reads.tolist())
        seconds = time.perf_counter() - self._since
        if self._team.is_main:
            self._report(
                StepReport(
                    step=module.step,
                    loss=loss,
                    learning_rate=float(module.optimizers().param_groups[0]["lr"]),
                    logit_scale=1 / temperature(module.model),
                    valid=valid,
                    samples_per_s=self._samples / seconds,
                    data_wait=self._waited / seconds,
                    read_mb=reads.read_bytes / 1e6,
                    read_requests=reads.requests,
                    read_ahead=reads.packed_bytes / max(1, reads.wanted_bytes),
                )
            )
        self._restart_counts(module.device)
        return bool(sums[3] > 0)

    def _restart_counts(self, device: torch.device) -> None:
        self._sums = torch.zeros(3, device=device)
        self._reads = torch.zeros(len(vars(Reads())), dtype=torch.int64, device=device)
        self._samples, self._waited, self._since = 0, 0.0, time.perf_counter()


def _refuse_nonfinite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise RuntimeError(
            f"the loss is {loss} at step {step}. Begin a new run with a lower train.learning_rate "
            "or with train.clip_grad_norm, or fork this one from an earlier round with them."
        )


def snapshot(module: ClipTraining) -> TrainState:
    """Return the state of a module between two steps."""
    optimizer: Any = module.optimizers(use_pl_optimizer=False)
    return TrainState(
        step=module.step,
        model={n: v.detach().cpu() for n, v in module.model.state_dict().items()},
        ema={n: v.detach().cpu() for n, v in module.ema.items()},
        optimizer=optimizer.state_dict(),
    )


def fit(
    module: ClipTraining,
    dataset: PoolDataset,
    segment: Segment,
    team: Team,
    *,
    precision: str,
    workers: int,
    deterministic: bool,
    report: Callable[[StepReport], None],
    report_every: int,
    checkpoint: Callable[[TrainState], None],
    checkpoint_every: int,
    should_stop: Callable[[], bool] = lambda: False,
    ahead: Ahead | None = None,
) -> TrainState:
    """Train from the module's step to the end of the segment; return the state there.

    Args:
        module: The model, at ``segment.begin`` or somewhere inside the segment.
        dataset: Rows → batches, with the transform of training.
        segment: The round's steps and their batches.
        team: The ranks.
        precision: As Lightning's ``precision``.
        workers: Data loader processes a rank.
        deterministic: As Lightning's ``deterministic``.
        report: Called on rank 0 every `report_every` steps.
        report_every: Steps.
        checkpoint: Called on rank 0 every `checkpoint_every` steps, and when stopped.
        checkpoint_every: Steps.
        should_stop: Asked after each step; with several ranks, at each report.
        ahead: Is told what coming batches will need; None: nothing is fetched ahead.

    Raises:
        Stopped: After `should_stop` said so; the state was given to `checkpoint`.
        StoreGone: If a shard cannot be read; on rank 0 the state was given to `checkpoint`.
    """
    ahead = ahead or NoAhead()
    watch = _Watch(
        team,
        report,
        checkpoint,
        report_every=report_every,
        checkpoint_every=checkpoint_every,
        should_stop=should_stop,
        ahead=ahead,
    )
    trainer = L.Trainer(
        accelerator="gpu" if team.device.type == "cuda" else "cpu",
        devices=team.local_size,
        num_nodes=team.nodes,
        strategy="auto" if team.size == 1 else DDPStrategy(broadcast_buffers=False),
        precision=precision,  # type: ignore[arg-type]
        deterministic=deterministic,
        max_steps=segment.end - module.step,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[watch],
    )
    sampler = PlanSampler(segment, module.step, team, ahead)
    with warnings.catch_warnings():
        # Lightning's advice on workers and samplers; both are decided on purpose.
        warnings.filterwarnings("ignore", module="lightning")
        trainer.fit(module, datamodule=PoolData(dataset, sampler, workers))
    if module.step != segment.end:
        if team.is_main:
            checkpoint(snapshot(module))
        raise Stopped
    return snapshot(module)


def move(state: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Return the tensors on a device."""
    return {name: value.to(device) for name, value in state.items()}
