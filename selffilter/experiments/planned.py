"""From an experiment to runs: the config of every cell, checked before anything starts."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from selffilter.clip.flops import forward_flops
from selffilter.clip.model import find_recipe
from selffilter.config import Config, changed_fields, load_config, read_run_config, to_yaml
from selffilter.errors import UserError
from selffilter.experiments.controls import LOOP, Facts, words
from selffilter.experiments.facts import NEEDS, PoolFacts
from selffilter.experiments.grid import BOOTSTRAP, Cell, Job, expand
from selffilter.experiments.pools import LaidOut, lay_out
from selffilter.experiments.schema import Experiment
from selffilter.indexing import open_pool
from selffilter.interrupt import StopRequest
from selffilter.planning import TRAINING_TO_FORWARD, Outlook, outlook
from selffilter.pool.index import Pool
from selffilter.rundir.forking import fork, refuse_misfit
from selffilter.store import RunStore, write_text
from selffilter.tracking.console import Screen


@dataclass(frozen=True)
class Cost:
    """What a job will compute.

    Attributes:
        samples: Samples seen by the whole run.
        shared_samples: Of these, seen in the bootstrap that a fork takes over.
        flops: Of the training that is left then, and of every pass over the pool.
    """

    samples: int
    shared_samples: int
    flops: float


class Grid:
    """The runs of an experiment.

    Args:
        experiment: The experiment.
        jobs: See `grid.expand`.
        screen: Hears how the pools are indexed.
        stop: Looked at while indexing.
    """

    def __init__(
        self, experiment: Experiment, jobs: list[Job], screen: Screen, stop: StopRequest
    ) -> None:
        self.experiment, self.jobs = experiment, jobs
        self._screen, self._stop = screen, stop
        self._methods = experiment.known_methods()
        self._facts: dict[tuple[str, int], PoolFacts] = {}
        self._laid: dict[tuple[str, int], LaidOut] = {}

    def with_jobs(self, jobs: list[Job]) -> Grid:
        """Return other jobs of the same experiment; what is known of its pools is shared."""
        other = copy.copy(self)
        other.jobs = jobs
        return other

    def store(self, cell: Cell) -> RunStore:
        """Return the run directory of a cell."""
        return RunStore(self.experiment.root / cell.pool / cell.run_name)

    def is_done(self, job: Job) -> bool:
        """Whether a job has nothing left to do."""
        if job.until == BOOTSTRAP:
            return self.reached_bootstrap(job.cell)
        return self.is_finished(job.cell)

    def is_finished(self, cell: Cell) -> bool:
        """Whether a run is at its end."""
        return (self.store(cell).final / "compute.json").exists()

    def reached_bootstrap(self, cell: Cell) -> bool:
        """Whether a run's bootstrap is trained."""
        return self.store(cell).is_done(0, "train")

    def sources_of_forks_to_come(self) -> set[Cell]:
        """Return the runs that a method of the experiment is still to branch off from."""
        return {
            job.source
            for job in expand(self.experiment)
            if job.forks and not self.store(job.cell).config_path.exists()
        }

    # --- beginning ----------------------------------------------------------------------------

    def prepare(self, job: Job) -> list[str]:
        """Branch off, if that is to be done, and write the config of a run.

        Returns:
            The words after ``selffilter`` that begin it or go on with it.

        Raises:
            UserError: If it cannot begin.
        """
        config = self.config(job.cell)
        if job.forks and not self.store(job.cell).config_path.exists():
            source = self.store(job.source)
            if not source.state(0).exists():
                raise UserError(
                    f"the training state of {job.source}'s bootstrap is gone (keep: results). "
                    f"Remove {source.root} to train it again, or give {job.cell.method} a start "
                    "of its own: start: scratch."
                )
            fork(source, config, from_round=0)
        path = self._jobs_folder(job.cell) / f"{job.cell.run_name}.yaml"
        write_text(path, to_yaml(config))
        return ["run", str(path), *(["--only", "train"] if job.until == BOOTSTRAP else [])]

    def log(self, cell: Cell) -> Path:
        """Return the file with what a run has said."""
        return self._jobs_folder(cell) / f"{cell.run_name}.log"

    def _jobs_folder(self, cell: Cell) -> Path:
        return self._pool_folder(cell) / "_jobs"

    # --- configs ------------------------------------------------------------------------------

    def config(self, cell: Cell) -> Config:
        """Return the config of a cell's run. All that its method waits for must be finished.

        Raises:
            UserError: Naming the cell, and what is wrong.
        """
        return self._config(cell, self.facts(cell))

    def expected_config(self, cell: Cell) -> Config:
        """Return that config before anything has run; what is not known yet is estimated."""
        return self._config(cell, self.facts(cell).estimates())

    def is_known(self, job: Job) -> bool:
        """Whether everything that a job's config depends on is known."""
        named = self._methods[job.cell.method].placeholders
        needed = [method for place in named for method in NEEDS.get(place, ())]
        cell = job.cell
        return all(self.is_finished(Cell(cell.pool, name, cell.seed)) for name in needed)

    def facts(self, cell: Cell) -> PoolFacts:
        """Return what placeholders stand for in a cell; lays out and indexes its pool."""
        key = (cell.pool, cell.seed)
        if key not in self._facts:
            loop = self._config(Cell(cell.pool, LOOP, cell.seed), None)
            pinned = open_pool(loop, self._screen, self._stop)
            pool = Pool(Path(pinned["index_dir"]), pinned["version"], loop.pool.caption_key)
            self._facts[key] = PoolFacts(
                pool,
                loop,
                lambda method: self.store(Cell(cell.pool, method, cell.seed)),
                self._pool_folder(cell) / "_inputs" / f"seed{cell.seed}",
            )
        return self._facts[key]

    def _config(self, cell: Cell, facts: Facts | None) -> Config:
        spec = self.experiment.pool(cell.pool)
        key = (cell.pool, cell.seed)
        if key not in self._laid:
            folder = self._pool_folder(cell) / "_data"
            self._laid[key] = lay_out(spec, cell.seed, folder, self._screen)
        laid = self._laid[key]
        own = {
            "name": cell.run_name,
            "runs_dir": self._pool_folder(cell),
            "seed": cell.seed,
            "pool.shards": list(laid.shards),
            "pool.caption_key": spec.caption_key,
            "evaluate.truth": laid.truth,
        }
        if laid.zero_shot:
            own["evaluate.zero_shot"] = list(laid.zero_shot)
        group = f"{self.experiment.name}/{cell.pool}"
        try:
            config = load_config(
                self.experiment.base_config,
                [
                    f"track.wandb_group={group}",
                    f"track.wandb_job_type={cell.method}",
                    *self.experiment.overrides,
                    *words(own, None),
                    *words(self._methods[cell.method].changes, facts),
                ],
            )
        except UserError as error:
            raise UserError(f"{cell}: {error}") from error
        config.model.name = _model_path(config.model.name, self.experiment.base_config)
        return config

    def _pool_folder(self, cell: Cell) -> Path:
        return self.experiment.root / cell.pool

    # --- checks and costs ---------------------------------------------------------------------

    def check(self) -> dict[Job, Cost]:
        """Check every run of the grid, and say what it costs.

        Raises:
            UserError: Naming each cell and what is wrong: a field, a fork that does not fit, or a
                run that is there already with another config.
        """
        wrong: list[str] = []
        costs: dict[Job, Cost] = {}
        for job in self.jobs:
            self._stop.check()
            try:
                expected = self.expected_config(job.cell)
                if job.forks:
                    refuse_misfit(self.expected_config(job.source), expected, from_round=0)
                costs[job] = self._cost(job, expected)
            except UserError as error:
                text = str(error)
                wrong.append(text if text.startswith(str(job.cell)) else f"{job.cell}: {text}")
                continue
            wrong += self._changed(job)
        if wrong:
            raise UserError("\n".join(["nothing was started:", *wrong]))
        return costs

    def _changed(self, job: Job) -> list[str]:
        store = self.store(job.cell)
        begun = store.config_path.exists() and (store.root / "environment.json").exists()
        if not begun or not self.is_known(job):
            return []
        fields = changed_fields(read_run_config(store.config_path), self.config(job.cell))
        if not fields:
            return []
        head = f"{job.cell} was begun with another config, and a run goes on as it was begun:"
        tail = f"Give the experiment another name, or remove {store.root} to train it anew."
        return ["\n".join([head, *fields, tail])]

    def _cost(self, job: Job, config: Config) -> Cost:
        plan = self.outlook(job.cell, config)
        shared = int(plan.rounds[0]["samples"]) if job.forks else 0
        samples = sum(int(row["samples"]) for row in plan.rounds)
        if job.until == BOOTSTRAP:
            samples = int(plan.rounds[0]["samples"])
        passes = 0.0 if job.until == BOOTSTRAP else plan.scoring_flops
        flops = TRAINING_TO_FORWARD * _forward_flops(config.model.name) * (samples - shared)
        return Cost(samples, shared, flops + passes)

    def outlook(self, cell: Cell, config: Config) -> Outlook:
        """Return the plan of a run in numbers."""
        facts = self.facts(cell)
        flops = _forward_flops(config.model.name)
        return outlook(config, facts.base_rows, facts.pool_rows, flops, parameters=0)


@cache
def _forward_flops(model: str) -> int:
    return forward_flops(find_recipe(model))


def _model_path(name: str, config: Path) -> str:
    """Return where a model's JSON lies: as named, else seen from the config that names it."""
    if not name.endswith(".json") or Path(name).exists():
        return name
    for folder in (config.parent, config.parent.parent):
        if (folder / name).exists():
            return str(folder / name)
    return name
