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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from selffilter.clip.model import temperature
from selffilter.errors import StoreGone
from selffilter.interrupt import Stopped
from selffilter.pool.prefetch import Ahead, NoAhead
from selffilter.pool.reading import BatchRequest, PoolDataset, loader_over
from selffilter.pool.row_reader import Reads
from selffilter.team import Team
from selffilter.training.batch_plan import BatchPlan, Rows
from selffilter.training.measure import forget_peak_memory, peak_memory_mb
from selffilter.training.module import ClipTraining
from selffilter.training.state import TrainState


@dataclass(frozen=True)
class StepReport:
    """How training stands; made every `report_every` steps, on rank 0.

    Attributes:
        step: Optimizer steps of the run.
        loss: Mean over the global batches since the last report, without skipped ones; NaN if all
            were.
        learning_rate: Of the last step.
        logit_scale: 1/τ after it.
        valid: Share of valid rows since the last report.
        samples_per_s: Over all ranks, since the last report.
        data_wait: Share of that time spent waiting for data.
        read_mb: Megabytes read from shards since the last report, over all ranks.
        read_requests: In so many requests.
        read_ahead: Share of the bytes that batches wanted which lay here already.
        step_s: Mean seconds a step since the last report.
        peak_memory_mb: Most memory a rank has used so far, as in `peak_memory_mb`.
        skipped_steps: Steps since the last report with a loss or gradient that was not finite; not
            those that a loss scale was lowered for.
        loss_scale: Of fp16, after the last step; None without.
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
    step_s: float
    peak_memory_mb: float
    skipped_steps: int
    loss_scale: float | None


class NotFinite(Exception):
    """More steps were skipped than may be, as their loss or gradient was not finite.

    Attributes:
        step: The last of them, counted over the run from 0.
        rows_B: The rows of its global batch.
        skipped: How many steps were skipped.
    """

    def __init__(self, step: int, rows_B: Rows, skipped: int) -> None:
        super().__init__(f"{skipped} steps skipped, the last one is step {step}")
        self.step, self.rows_B, self.skipped = step, rows_B, skipped


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
        checkpoint_every_s: float,
        max_skipped: int,
        segment: Segment,
        should_stop: Callable[[], bool],
        ahead: Ahead,
    ) -> None:
        self._team = team
        self._max_skipped, self._segment = max_skipped, segment
        self._ahead, self._fetched = ahead, Reads()
        self._report, self._report_every = report, report_every
        self._checkpoint, self._checkpoint_every = checkpoint, checkpoint_every
        self._checkpoint_every_s = checkpoint_every_s
        self._should_stop = should_stop
        self._on_sigterm = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: Any, module: Any) -> None:
        # Lightning puts a handler of its own before ours, which broadcasts from inside the signal
        # and ends the fit before anything is saved (2.6.6). The stop is ours to agree on.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_sigterm)
        self._skipped = int(module.skips[0])
        forget_peak_memory(module.device)
        self._restart_counts(module.device)
        self._saved_at = self._batch_end = time.perf_counter()

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        self._waited += time.perf_counter() - self._batch_end

    def on_train_batch_end(
        self, trainer: Any, module: ClipTraining, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        taken = 1 - module.found_inf
        loss = torch.where(taken > 0, loss.float(), 0.0)
        self._sums += torch.stack([loss, taken, batch["valid"].float().mean()])
        self._steps += 1
        self._reads += batch["reads"]
        self._samples += len(batch["row"]) * self._team.size
        # Alone: at once. With others: at a report, where all learn of it at the same step.
        stop = self._team.size == 1 and self._should_stop()
        # Of the last step before its checkpoint: who is killed in between would never make it.
        if module.step % self._report_every == 0 or module.step == self._segment.end:
            stop = self._make_report(module) or stop
        if self._team.is_main and (stop or self._is_to_be_saved(module.step)):
            self._save(module)
        if stop:
            raise Stopped
        self._batch_end = time.perf_counter()

    def on_exception(self, trainer: Any, module: ClipTraining, exception: BaseException) -> None:
        # A batch could not be read: the state is that of the step before it, and whole.
        if isinstance(exception, StoreGone) and self._team.is_main:
            self._save(module)

    def on_train_end(self, trainer: Any, module: ClipTraining) -> None:
        if self._samples:
            self._make_report(module)

    def _save(self, module: ClipTraining) -> None:
        # With too many skipped steps the next report ends this: gone on with, it would again.
        if int(module.skips[0]) <= max(self._max_skipped, self._skipped):
            self._checkpoint(snapshot(module))
        self._saved_at = time.perf_counter()

    def _is_to_be_saved(self, step: int) -> bool:
        since_s = time.perf_counter() - self._saved_at
        return step % self._checkpoint_every == 0 or since_s >= self._checkpoint_every_s

    def _make_report(self, module: ClipTraining) -> bool:
        """Report on rank 0; returns whether any rank was asked to stop."""
        asked = torch.tensor([float(self._should_stop())], device=module.device)
        sums = torch.cat([self._sums, asked])
        memory = torch.tensor(peak_memory_mb(module.device), device=module.device)
        fetched = self._ahead.reads()
        self._reads += torch.tensor(list(vars(fetched.since(self._fetched)).values())).to(
            module.device
        )
        self._fetched = fetched
        if dist.is_initialized():
            dist.all_reduce(sums)
            dist.all_reduce(self._reads)
            dist.all_reduce(memory, dist.ReduceOp.MAX)
        loss_sum, taken, valid_sum, asked_sum = sums.tolist()
        skipped, last_skipped = module.skips.tolist()
        reads = Reads(*self._reads.tolist())
        seconds = time.perf_counter() - self._since
        if self._team.is_main:
            self._report(
                StepReport(
                    step=module.step,
                    loss=loss_sum / taken if taken else math.nan,
                    learning_rate=float(module.optimizers().param_groups[0]["lr"]),
                    logit_scale=1 / temperature(module.model),
                    valid=valid_sum / (self._steps * self._team.size),
                    samples_per_s=self._samples / seconds,
                    data_wait=self._waited / seconds,
                    read_mb=reads.read_bytes / 1e6,
                    read_requests=reads.requests,
                    read_ahead=reads.packed_bytes / max(1, reads.wanted_bytes),
                    step_s=seconds / self._steps,
                    peak_memory_mb=float(memory),
                    skipped_steps=skipped - self._skipped,
                    loss_scale=module.loss_scale.state()[0] if module.loss_scale else None,
                )
            )
        if skipped > self._max_skipped and skipped > self._skipped:
            plan, begin = self._segment.plan, self._segment.begin
            raise NotFinite(last_skipped, plan.rank_batch(last_skipped - begin, 0, 1), skipped)
        self._skipped = skipped
        self._restart_counts(module.device)
        return asked_sum > 0

    def _restart_counts(self, device: torch.device) -> None:
        self._sums = torch.zeros(3, device=device)
        self._reads = torch.zeros(len(vars(Reads())), dtype=torch.int64, device=device)
        self._steps = self._samples = 0
        self._waited, self._since = 0.0, time.perf_counter()


def snapshot(module: ClipTraining) -> TrainState:
    """Return the state of a module between two steps."""
    optimizer: Any = module.optimizers(use_pl_optimizer=False)
    return TrainState(
        step=module.step,
        model={n: v.detach().cpu() for n, v in module.model.state_dict().items()},
        ema={n: v.detach().cpu() for n, v in module.ema.items()},
        optimizer=optimizer.state_dict(),
        skipped=int(module.skips[0]),
        loss_scale=module.loss_scale.state() if module.loss_scale else None,
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
    checkpoint_every_s: float = math.inf,
    max_skipped: int = 0,
    should_stop: Callable[[], bool] = lambda: False,
    ahead: Ahead | None = None,
    static_graph: bool = False,
    callbacks: Sequence[L.Callback] = (),
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
        checkpoint: Called on rank 0 every `checkpoint_every` steps, when `checkpoint_every_s` have
            passed since the last call, and when stopped.
        checkpoint_every: Steps.
        checkpoint_every_s: Seconds.
        max_skipped: How many steps may be skipped since the weights were fresh; looked at whenever
            there is a report.
        should_stop: Asked after each step; with several ranks, at each report.
        ahead: Is told what coming batches will need; None: nothing is fetched ahead.
        static_graph: As torch's DDP has it, with several ranks.
        callbacks: More of Lightning's.

    Raises:
        NotFinite: If more steps were skipped.
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
        checkpoint_every_s=checkpoint_every_s,
        max_skipped=max_skipped,
        segment=segment,
        should_stop=should_stop,
        ahead=ahead,
    )
    trainer = L.Trainer(
        accelerator="gpu" if team.device.type == "cuda" else "cpu",
        devices=team.local_size,
        num_nodes=team.nodes,
        strategy=(
            DDPStrategy(broadcast_buffers=False, static_graph=static_graph)
            if team.size > 1
            else "auto"
        ),
        **_precision(precision, team.device),
        deterministic=deterministic,
        max_steps=segment.end - module.step,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[*callbacks, watch],
    )
    sampler = PlanSampler(segment, module.step, team, ahead)
    with warnings.catch_warnings():
        # Lightning's advice on workers and samplers; both are decided on purpose.
        warnings.filterwarnings("ignore", module="lightning")
        try:
            trainer.fit(module, datamodule=PoolData(dataset, sampler, workers))
        except SystemExit as end:
            # Lightning makes a silent exit code 1 of a KeyboardInterrupt (2.6.6).
            if isinstance(end.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from end
            raise
    if module.step != segment.end:
        if team.is_main:
            checkpoint(snapshot(module))
        raise Stopped
    return snapshot(module)


def _precision(precision: str, device: torch.device) -> dict[str, Any]:
    if precision != "16-mixed":
        return {"precision": precision}
    # Lightning's own scaler asks the host at each step; the module's does not. And Lightning would
    # make bf16 of it on a CPU.
    off = torch.amp.GradScaler(device.type, enabled=False)
    return {"plugins": [MixedPrecision("16-mixed", device.type, scaler=off)]}


def move(state: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Return the tensors on a device."""
    return {name: value.to(device) for name, value in state.items()}
