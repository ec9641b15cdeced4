"""Our trainer without a run directory: `fit` on a plan over the whole pool."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from job import BETAS, EPS, SEED, WEIGHT_DECAY, Job, Record
from torch import Tensor

from selffilter.clip.model import find_recipe, load_weights
from selffilter.pool.base import Base
from selffilter.pool.index import Pool, build_index
from selffilter.pool.reading import PoolDataset
from selffilter.team import Team
from selffilter.training.batch_plan import BatchPlan, WholeBase
from selffilter.training.module import ClipTraining, adamw, fresh_ema
from selffilter.training.schedule import learning_rate
from selffilter.training.trainer import Segment, fit

CROP_SCALE = 0.9
"""As open_clip's."""


class Recording(ClipTraining):
    """Keeps the losses, and when each step began."""

    losses: list[Tensor]
    record: Record

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.record.tick()
        if not bool(batch["valid"].all()):
            raise RuntimeError("a row cannot be read: open_clip's side would have left it out")
        loss = super().training_step(batch, batch_idx)
        self.losses.append(loss)
        return loss


class WithoutAverage(Recording):
    """Keeps no average of the weights."""

    def _update_ema(self, *_: object) -> None:
        pass


def pool_of(shards: Path) -> Pool:
    """Return the pool of a folder of tars, its index beside it."""
    index = shards.with_name(f"{shards.name}-index")
    return Pool(index, build_index([str(shards)], index))


def plan_of(pool: Pool, batch_size: int) -> BatchPlan:
    """Return the batches of a round on the whole pool."""
    return BatchPlan(WholeBase(Base(pool, seed=SEED)), batch_size, seed=SEED, round_=0)


def train(job: Job) -> Record:
    """Train as the job says."""
    warnings.filterwarnings("ignore")
    record = Record()
    record.begin()
    recipe = find_recipe(job.model)
    torch.manual_seed(SEED)
    model = recipe.build()
    if job.weights is not None:
        model.load_state_dict(load_weights(Path(job.weights)))
    pool = pool_of(Path(job.shards))

    def rate(step: int) -> float:
        return learning_rate(
            step, job.steps, peak=job.learning_rate, warmup_steps=job.warmup_steps,
            schedule="cosine",
        )  # fmt: skip

    kind = Recording if job.averages else WithoutAverage
    module = kind(
        model.train(),
        lambda of: adamw(of, betas=BETAS, eps=EPS, weight_decay=WEIGHT_DECAY),
        rate,
        seed=SEED,
        first_step=0,
        ema=fresh_ema(model) if job.averages else {},
        ema_decay=0.9995,
    )
    module.losses, module.record = [], record
    fit(
        module,
        PoolDataset(
            pool,
            recipe.transform(crop_scale=CROP_SCALE if job.augment else None),
            recipe.tokenize,
            max_pixels=10**8,
            seed=SEED,
        ),
        Segment(plan_of(pool, job.batch_size), 0, job.steps),
        Team(torch.device("cpu")),
        precision="32-true",
        workers=job.workers,
        deterministic=False,
        report=lambda report: None,
        report_every=10,
        # What is measured are the steps: neither side saves.
        checkpoint=lambda state: None,
        checkpoint_every=10**9,
    )
    record.end(job)
    record.losses = [float(loss) for loss in module.losses]
    return record
