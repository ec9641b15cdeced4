"""What all stages of a run share."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from selffilter.clip.compiling import compile_towers
from selffilter.clip.model import ClipRecipe, find_recipe, load_weights
from selffilter.config import Config
from selffilter.evaluation.evaluate import EvaluationSettings, evaluate
from selffilter.evaluation.sets import EvaluationSet, open_sets
from selffilter.interrupt import StopRequest
from selffilter.planning import RoundSteps, round_steps, stages_of
from selffilter.pool.base import Base
from selffilter.pool.captions import CaptionKey
from selffilter.pool.index import Pool
from selffilter.pool.packs import Packs, packs_at
from selffilter.pool.prefetch import Ahead, Fetching, fetching_ahead
from selffilter.pool.reading import PoolDataset
from selffilter.pool.row_reader import members_read, size_limits
from selffilter.pool.stores.find import is_far
from selffilter.progress import Bar, NoBar
from selffilter.store import RunStore
from selffilter.team import Team
from selffilter.tracking.console import Screen
from selffilter.tracking.trackers import Tracker
from selffilter.training.batch_plan import BatchPlan
from selffilter.training.round_plan import round_plan

Summary = dict[str, Any]


@dataclass
class RunContext:
    """One run, open: its config, its files, its pool, its ranks, its listeners."""

    config: Config
    store: RunStore
    team: Team
    screen: Screen
    tracker: Tracker
    recipe: ClipRecipe
    pool: Pool
    base: Base
    schedule: list[RoundSteps]
    stop: StopRequest

    @classmethod
    def of(
        cls,
        config: Config,
        store: RunStore,
        team: Team,
        screen: Screen,
        tracker: Tracker,
        stop: StopRequest,
        pinned: dict[str, str],
    ) -> RunContext:
        """Open the pinned version of the pool and look up the model."""
        pool = Pool(Path(pinned["index_dir"]), pinned["version"], config.pool.caption_key)
        return cls(
            config=config,
            store=store,
            team=team,
            screen=screen,
            tracker=tracker,
            recipe=find_recipe(config.model.name, config.model.pretrained),
            pool=pool,
            base=Base.of(pool, config),
            schedule=round_steps(config),
            stop=stop,
        )

    # --- what stages are made of --------------------------------------------------------------

    def plan(self, steps: RoundSteps) -> BatchPlan:
        """Return the batches of a round: over the base, or what the round before selected."""
        return round_plan(self.config, self.store, self.base, steps.round)

    def dataset(self, *, train: bool) -> PoolDataset:
        """Return rows → batches, with the transform of training or of evaluation.

        Training meets one of a row's captions at a time, scoring all of them.
        """
        c = self.config
        crop_scale = c.train.crop_scale if train and c.train.augment else None
        return PoolDataset(
            self.pool,
            self.recipe.transform(crop_scale=crop_scale),
            self.recipe.tokenize,
            max_pixels=c.pool.max_image_pixels,
            at_least=(
                self.recipe.shorter_side_needed(crop_scale=crop_scale)
                if c.pool.reduced_decoding
                else None
            ),
            max_image_bytes=c.pool.max_image_bytes,
            seed=c.seed,
            every_caption=not train,
            hash_images=not train and c.select.needs_hashes,
            request_bytes=c.pool.request_bytes,
            packs=self.packs if train else None,
        )

    @cached_property
    def packs(self) -> Packs | None:
        """What was fetched ahead of training; None if nothing is."""
        pool = self.config.pool
        return packs_at(pool.cache_dir, pool.cache_gb) if pool.cache_gb and self.is_far else None

    @cached_property
    def is_far(self) -> bool:
        """Whether a shard of the pool lies on a server."""
        return any(is_far(self.pool.location(shard)) for shard in range(self.pool.shards))

    def fetching_ahead(self) -> AbstractContextManager[Ahead]:
        """Return what fetches ahead of training while it is entered."""
        pool, team, fetching = self.config.pool, self.team, None
        if self.packs is not None:
            members = members_read(CaptionKey.parse(pool.caption_key))
            limits = size_limits(pool.max_image_bytes)
            fetching = Fetching(self.pool, self.packs, members, pool.request_bytes, limits)
        return fetching_ahead(fetching, share=(team.rank % team.local_size, team.local_size))

    def scorer(self, round_: int) -> nn.Module:
        """Return the model that a round's training left for scoring, on the device, in eval."""
        model = self.recipe.build()
        model.load_state_dict(load_weights(self.store.model(round_)))
        if self.config.hardware.compile:
            compile_towers(model)
        return model.to(self.team.device).eval()

    def zero_shot(self, model: nn.Module, steps: RoundSteps, step: int, stage: str) -> Summary:
        """Evaluate on every set and log it; returns the first classification set's numbers."""
        c = self.config
        shown: Summary = {}
        settings = EvaluationSettings(c.evaluate.batch_size, c.hardware.workers)
        for data in open_sets(c.evaluate.zero_shot):
            with self._evaluation_bar(f"round {steps.round}  evaluate on {data.name}", data) as bar:
                found = evaluate(model, self.recipe, data, settings, bar)
            self.log("zero_shot", steps.round, stage, step, found.record())
            if not shown and "acc1" in found.metrics:
                shown = {k: found.metrics[k] for k in ("acc1", "acc5", "mean_per_class_recall")}
        return shown

    def _evaluation_bar(self, title: str, data: EvaluationSet) -> AbstractContextManager[Bar]:
        """Return a bar in kilobytes; where a server does not say how many, what goes on."""
        if data.total_bytes:
            return self.screen.bar(f"{title}  kB", data.total_bytes // 1000)
        self.screen.doing(title, "")
        return nullcontext(NoBar())

    # --- records and markers ------------------------------------------------------------------

    def begin(self, steps: RoundSteps, stage: str, step: int) -> None:
        """Tell the trackers, and the other ranks, that a stage begins, or goes on from a step."""
        self.team.doing = f"{stage} of round {steps.round}"
        if self.team.is_main:
            seen = step * self.config.train.global_batch_size
            self.tracker.begin(steps.round, stage, seen)
            self.screen.begin_stage(steps.round, stage, seen)

    def log(self, kind: str, round_: int, stage: str, step: int, values: Summary) -> None:
        """Log values at a step of the run."""
        seen = step * self.config.train.global_batch_size
        axes = {"kind": kind, "round": round_, "stage": stage, "samples_seen": seen}
        self.tracker.log(values | axes)

    def is_done(self, round_: int, stage: str) -> bool:
        """Whether a stage is finished; rank 0 looks, all are told."""
        done: bool = self.team.decide(lambda: self.store.is_done(round_, stage))
        return done

    def show_round(self, steps: RoundSteps) -> None:
        """Show the row of a finished round."""
        if self.team.is_main:
            stages = stages_of(self.config, steps.round)
            self.screen.round_row(self.store.round_summary(steps.round, stages))
