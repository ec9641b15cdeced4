"""The rates of one case: training end to end and its step alone, scoring and its forward alone."""

from __future__ import annotations

import contextlib
import gc
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from job import BETAS, EPS, SEED, WEIGHT_DECAY
from selffilter_side import CROP_SCALE, plan_of, pool_of
from torch import Tensor, nn

from selffilter.clip.compiling import compile_towers
from selffilter.clip.flops import training_flops
from selffilter.clip.losses import contrastive_loss
from selffilter.clip.model import ClipRecipe, find_recipe, save_weights
from selffilter.interrupt import Stopped
from selffilter.pool.base import Base
from selffilter.pool.index import Pool
from selffilter.pool.reading import BatchRequest, PoolDataset
from selffilter.scoring.captions import encode_captions
from selffilter.scoring.pool_pass import PoolPass
from selffilter.scoring.signals.find import find_signal
from selffilter.stages.score import AUTOCAST
from selffilter.team import Team
from selffilter.training.loss_scale import LossScale
from selffilter.training.measure import peak_flops
from selffilter.training.module import MAX_LOGIT_SCALE, ClipTraining, adamw, fresh_ema
from selffilter.training.trainer import Segment, StepReport, fit

LEARNING_RATE = 1e-6
MAX_PIXELS = 10**8
PREFETCHED = 4
"""Batches that a worker has ready: until they are used up, a loader seems faster than it is."""


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        model: A name of open_clip's, or the path of a JSON model config.
        batch: Rows a step, and rows that are scored together.
        precision: As ``hardware.precision``.
        compile: As ``hardware.compile``.
        workers: Data loader processes.
        steps: Steps that count.
        skip: Steps before them that do not; with a loader, besides those that were prefetched.
        repeat: Turns.
        bank: Rows of the bank that scoring compares with.
    """

    model: str
    batch: int
    precision: str
    compile: bool
    workers: int
    steps: int
    skip: int
    repeat: int
    bank: int

    @property
    def skip_with_loader(self) -> int:
        """Steps until what counts begins, where batches come from a loader."""
        return self.skip + PREFETCHED * self.workers


class Clock:
    """When a step begins; at the two that count, the device has done what it was given."""

    def __init__(self, skip: int, steps: int, device: torch.device) -> None:
        self._edges, self._device = (skip, skip + steps), device
        self._seen, self._times = 0, []

    @property
    def steps(self) -> int:
        """How many steps have to begin."""
        return self._edges[1] + 1

    def tick(self) -> None:
        """A step begins."""
        if self._seen in self._edges:
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            self._times.append(time.perf_counter())
        self._seen += 1

    @property
    def seconds(self) -> float:
        """From the beginning of the first step that counts to that of the first after them."""
        begin, end = self._times
        return end - begin


class Stepping(ClipTraining):
    """Ticks; trains on the batch in memory, if there is one, and not on the loader's."""

    clock: Clock
    resident: dict[str, Tensor] | None = None

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.clock.tick()
        return super().training_step(batch, batch_idx)

    def transfer_batch_to_device(
        self, batch: dict[str, Tensor], device: torch.device, dataloader_idx: int
    ) -> dict[str, Tensor]:
        if self.resident is not None:
            return self.resident
        return super().transfer_batch_to_device(batch, device, dataloader_idx)


class Nothing:
    """As a dataset: what a loader has to bring where the batch is in memory."""

    def __getitem__(self, request: BatchRequest) -> dict[str, Tensor]:
        return {"row": torch.zeros(1, dtype=torch.int64)}


def measure(case: Case, shards: Path) -> dict[str, Any]:
    """Measure a case on the shards of a folder; rates are in samples a second, one a turn."""
    warnings.filterwarnings("ignore")
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    recipe, pool = find_recipe(case.model), pool_of(shards)
    found = training_rates(case, recipe, pool, device)
    gc.collect()
    return found | scoring_rates(case, recipe, pool, device)


def training_rates(
    case: Case, recipe: ClipRecipe, pool: Pool, device: torch.device
) -> dict[str, Any]:
    """Return the rates of training, its peak memory (of the first turn), and what it computes."""
    torch.manual_seed(SEED)
    model = recipe.build().train()
    flops = training_flops(recipe, model)
    if case.compile:
        compile_towers(model)
    module = Stepping(
        model,
        lambda of: adamw(of, betas=BETAS, eps=EPS, weight_decay=WEIGHT_DECAY),
        lambda step: LEARNING_RATE,
        seed=SEED,
        first_step=0,
        ema={name: value.to(device) for name, value in fresh_ema(model).items()},
        ema_decay=0.9995,
        loss_scale=LossScale(device) if case.precision == "16-mixed" else None,
    )
    plan = plan_of(pool, case.batch)
    dataset = PoolDataset(
        pool, recipe.transform(crop_scale=CROP_SCALE), recipe.tokenize,
        max_pixels=MAX_PIXELS, seed=SEED,
    )  # fmt: skip
    batch = {k: v.to(device) for k, v in dataset[BatchRequest(plan.batch(0), 0)].items()}
    if case.precision == "bf16-true":
        batch["image"] = batch["image"].bfloat16()
    peaks: list[float] = []

    def fitted(resident: dict[str, Tensor] | None) -> float:
        """Take the steps that a run's training would take."""
        skip = case.skip if resident else case.skip_with_loader
        module.clock, module.resident = Clock(skip, case.steps, device), resident
        begin = module.step

        def report(now: StepReport) -> None:
            if resident is None:
                peaks.append(now.peak_memory_mb)

        fit(
            module,
            Nothing() if resident else dataset,
            Segment(plan, begin, begin + module.clock.steps),
            Team(device),
            precision=case.precision,
            workers=0 if resident else case.workers,
            deterministic=False,
            report=report,
            report_every=10,
            checkpoint=lambda state: None,
            checkpoint_every=10**9,
            max_skipped=10**9,
        )
        return case.steps * case.batch / module.clock.seconds

    ways: dict[str, Callable[[], float]] = {
        "end_to_end": lambda: fitted(None),
        "in_memory": lambda: fitted(batch),
        "bare": lambda: bare_rate(case, model.to(device), batch, device),
    }
    rates = by_turns(ways, case.repeat)
    peak = peak_flops(device, case.precision)
    # The first turn is also the first thing that the process does: nothing before has needed more.
    first = peaks[: len(peaks) // case.repeat]
    return rates | {"flops": flops, "peak_flops": peak, "peak_memory_mb": max(first)}


def bare_rate(
    case: Case, model: nn.Module, batch: dict[str, Tensor], device: torch.device
) -> float:
    """Return the rate of a loop of forward, loss, backward and optimizer, and of nothing else."""
    optimizer = adamw(model, betas=BETAS, eps=EPS, weight_decay=WEIGHT_DECAY)
    for group in optimizer.param_groups:
        group["lr"] = LEARNING_RATE
    autocast = AUTOCAST[case.precision] if case.precision.endswith("mixed") else None
    clock = Clock(case.skip, case.steps, device)
    for _ in range(clock.steps):
        clock.tick()
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
            out = model(batch["image"], batch["text"])
        contrastive_loss(out, batch["valid"], None).backward()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
    return case.steps * case.batch / clock.seconds


def scoring_rates(
    case: Case, recipe: ClipRecipe, pool: Pool, device: torch.device
) -> dict[str, Any]:
    """Return the rate of the run's own pass over the pool, and of its model's forward."""
    model = recipe.build()
    if case.compile:
        compile_towers(model)
    model = model.to(device).eval()
    base = Base(pool, seed=SEED)
    dataset = PoolDataset(
        pool, recipe.transform(), recipe.tokenize, max_pixels=MAX_PIXELS, seed=SEED,
        every_caption=True,
    )  # fmt: skip
    pool_pass = PoolPass(
        model,
        dataset,
        base,
        {"neg_clip_loss": find_signal("neg_clip_loss")},
        batch_size=case.batch,
        workers=case.workers,
        autocast=AUTOCAST[case.precision],
    )
    request = BatchRequest(base.readable(0)[: case.batch])
    batch = {name: value.to(device) for name, value in dataset[request].items()}

    def passing() -> float:
        skip, ended, scored = case.skip_with_loader, [], 0

        def progress(samples: int) -> None:
            nonlocal scored
            # The scores of the batch are on the host: the device has done it.
            ended.append(time.perf_counter())
            scored += samples if len(ended) > skip else 0
            if len(ended) == skip + case.steps:
                raise Stopped

        with tempfile.TemporaryDirectory() as scratch:
            write_random_bank(Path(scratch) / "bank", case.bank, recipe.model_config["embed_dim"])
            bank = pool_pass.read_bank(Path(scratch) / "bank")
            # Over and over, until it is told to stop.
            shards = list(range(pool.shards)) * rounds_needed(case, pool)
            with contextlib.suppress(Stopped):
                pool_pass.score_shards(shards, Path(scratch) / "scores", 0, bank, progress)
        return scored / (ended[-1] - ended[skip - 1])

    def forward() -> float:
        clock = Clock(case.skip, case.steps, device)
        autocast = AUTOCAST[case.precision]
        for _ in range(clock.steps):
            clock.tick()
            with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
                encode_captions(model, batch["image"], batch["text"])
        return case.steps * case.batch / clock.seconds

    return by_turns({"scoring": passing, "forward": forward}, case.repeat)


def rounds_needed(case: Case, pool: Pool) -> int:
    """Return how often the pool is gone over for the batches that are wanted."""
    return 1 + (case.skip_with_loader + case.steps) * case.batch // pool.rows


def write_random_bank(path: Path, size: int, dimensions: int) -> None:
    """Write a bank: what comparing with it costs does not depend on what is in it."""
    drawn = torch.randn(2, size, dimensions, generator=torch.Generator().manual_seed(SEED))
    image_MD, text_MD = nn.functional.normalize(drawn, dim=-1)
    row_M = torch.arange(size)
    save_weights(path, {"image_features_MD": image_MD, "text_features_MD": text_MD, "row_M": row_M})


def by_turns(ways: dict[str, Callable[[], float]], repeat: int) -> dict[str, list[float]]:
    """Measure one way after the other, and all of them again."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeat):
        for name, way in ways.items():
            rates[name].append(way())
    return rates


def middle_ratio(a: list[float], b: list[float]) -> float:
    """Return the middle of the ratios, turn by turn."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))
