"""Running a grid: order, failures, stopping. The runs themselves are stood in for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from selffilter.errors import UserError
from selffilter.experiments import runner as module
from selffilter.experiments.grid import BOOTSTRAP, Cell, Job, expand
from selffilter.experiments.planned import Cost
from selffilter.experiments.runner import Outcome, Runner
from selffilter.experiments.schema import Experiment, PoolSpec
from selffilter.interrupt import StopRequest
from selffilter.store import RunStore
from selffilter.tracking.console import Screen


class FakeGrid:
    """A grid whose runs are names in two sets."""

    def __init__(self, root: Path, **fields: object) -> None:
        self.experiment = Experiment("x", (PoolSpec("p", demo="openclipart"),), **fields)  # type: ignore[arg-type]
        self.jobs = expand(self.experiment)
        self.root = root
        self.trained: set[Cell] = set()
        self.finished: set[Cell] = set()
        self.unfit: set[str] = set()
        self.to_fork: set[Cell] = set()

    def is_finished(self, cell: Cell) -> bool:
        return cell in self.finished

    def reached_bootstrap(self, cell: Cell) -> bool:
        return cell in self.trained | self.finished

    def is_done(self, job: Job) -> bool:
        here = self.reached_bootstrap if job.until == BOOTSTRAP else self.is_finished
        return here(job.cell)

    def prepare(self, job: Job) -> list[str]:
        if job.cell.method in self.unfit:
            raise UserError("does not fit")
        return [job.cell.method, job.until]

    def store(self, cell: Cell) -> RunStore:
        return RunStore(self.root / cell.run_name)

    def log(self, cell: Cell) -> Path:
        return self.root / f"{cell.run_name}.log"

    def sources_of_forks_to_come(self) -> set[Cell]:
        return self.to_fork

    def cell(self, method: str) -> Cell:
        return Cell("p", method, 0)


@dataclass
class FakeRun:
    """Trains its bootstrap at the first look, ends at the third; or does what it is told."""

    grid: FakeGrid
    cell: Cell
    until: str
    ends_with: int = 0
    looks: int = 0
    asked: bool = False
    killed: bool = False

    def poll(self) -> int | None:
        if self.asked:
            return 75
        self.looks += 1
        if self.looks == 1:
            if not self.ends_with:
                self.grid.trained.add(self.cell)
            return self.ends_with if self.until == BOOTSTRAP else None
        if self.looks < 3:
            return None
        if not self.ends_with:
            self.grid.finished.add(self.cell)
        return self.ends_with

    def ask_to_stop(self) -> None:
        self.asked = True

    def kill(self) -> None:
        self.killed = True


@dataclass
class FakeLauncher:
    grid: FakeGrid
    codes: dict[str, int] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    running: list[FakeRun] = field(default_factory=list)
    most: int = 0

    def start(self, words: list[str], log: Path) -> FakeRun:
        method, until = words
        self.started.append(method)
        run = FakeRun(self.grid, self.grid.cell(method), until, self.codes.get(method, 0))
        self.running.append(run)
        self.most = max(self.most, sum(r.looks < 3 for r in self.running))
        log.write_text(f"Traceback …\nValueError: {method} is broken\n")
        return run


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0)


def run(
    grid: FakeGrid, launcher: FakeLauncher, jobs: int = 1, stop: StopRequest | None = None
) -> Outcome:
    costs = {job: Cost(100, 0, 1.0) for job in grid.jobs}
    stop = stop or StopRequest()
    return Runner(grid, costs, launcher, jobs, Screen(quiet=True), stop).run()  # type: ignore[arg-type]


def methods(jobs: list[Job]) -> list[str]:
    return [job.cell.method for job in jobs]


def test_all_run_one_after_the_other_in_the_order_of_the_grid(tmp_path: Path) -> None:
    grid = FakeGrid(tmp_path, methods=("uniform", "loop", "oracle"))
    launcher = FakeLauncher(grid)
    outcome = run(grid, launcher)
    assert launcher.started == ["loop", "uniform", "oracle"]
    assert launcher.most == 1
    assert methods(outcome.done) == ["loop", "uniform", "oracle"]
    assert not (outcome.failed or outcome.blocked or outcome.stopped)


def test_what_is_done_is_not_begun_again(tmp_path: Path) -> None:
    grid = FakeGrid(tmp_path, methods=("loop", "uniform", "oracle"))
    grid.finished |= {grid.cell("loop"), grid.cell("oracle")}
    launcher = FakeLauncher(grid)
    assert len(run(grid, launcher).done) == 3
    assert launcher.started == ["uniform"]


def test_a_fork_waits_for_the_loops_bootstrap_and_not_for_its_end(tmp_path: Path) -> None:
    grid = FakeGrid(tmp_path, methods=("loop", "top_only", "fixed_set"))
    launcher = FakeLauncher(grid)
    begun_when: dict[str, tuple[bool, bool]] = {}
    start = launcher.start

    def note(words: list[str], log: Path) -> FakeRun:
        loop = grid.cell("loop")
        begun_when[words[0]] = (grid.reached_bootstrap(loop), grid.is_finished(loop))
        return start(words, log)

    launcher.start = note  # type: ignore[method-assign]
    run(grid, launcher, jobs=3)
    assert begun_when == {
        "loop": (False, False),
        "top_only": (True, False),
        "fixed_set": (True, True),
    }


def test_no_more_run_at_a_time_than_allowed(tmp_path: Path) -> None:
    grid = FakeGrid(tmp_path, methods=("loop", "oracle", "uniform_equal_compute"))
    launcher = FakeLauncher(grid)
    run(grid, launcher, jobs=2)
    assert launcher.most == 2


def test_a_run_that_fails_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    grid = FakeGrid(tmp_path, methods=("loop", "oracle", "uniform"))
    launcher = FakeLauncher(grid, codes={"oracle": 1})
    outcome = run(grid, launcher)
    assert methods(outcome.done) == ["loop", "uniform"]
    ((job, why),) = outcome.failed.items()
    assert job.cell.method == "oracle"
    assert "exit code 1" in why
    assert "ValueError: oracle is broken" in why


def test_a_run_that_ends_well_but_leaves_nothing_has_failed(tmp_path: Path) -> None:
    grid = FakeGrid(tmp_path, methods=("oracle",))
    launcher = FakeLauncher(grid)
    grid.is_done = lambda job: False  # type: ignore[method-assign]
    assert methods(list(run(grid, launcher).failed)) == ["oracle"]


def test_what_needs_a_failed_run_is_left_out_and_said_to_be(tmp_path: Path) -> None:
    grid = FakeGrid(tmp_path, methods=("loop", "top_only", "fixed_set", "oracle"))
    outcome = run(grid, FakeLauncher(grid, codes={"loop": 1}))
    assert methods(list(outcome.failed)) == ["loop"]
    assert methods(outcome.blocked) == ["top_only", "fixed_set"]
    assert methods(outcome.done) == ["oracle"]


def test_a_run_whose_config_turns_out_not_to_fit_has_failed(tmp_path: Path) -> None:
    grid = FakeGrid(tmp_path, methods=("loop", "fixed_set", "oracle"))
    grid.unfit = {"fixed_set"}
    outcome = run(grid, FakeLauncher(grid))
    assert {j.cell.method: why for j, why in outcome.failed.items()} == {
        "fixed_set": "does not fit"
    }
    assert methods(outcome.done) == ["loop", "oracle"]


def test_asked_to_stop_it_lets_all_save_and_begins_nothing_more(tmp_path: Path) -> None:
    grid = FakeGrid(tmp_path, methods=("loop", "oracle", "uniform_equal_compute"))
    launcher, stop = FakeLauncher(grid), StopRequest()
    start = launcher.start

    def ask_at_the_second(words: list[str], log: Path) -> FakeRun:
        if words[0] == "oracle":
            stop.ask()
        return start(words, log)

    launcher.start = ask_at_the_second  # type: ignore[method-assign]
    outcome = run(grid, launcher, jobs=2, stop=stop)
    assert outcome.stopped
    assert launcher.started == ["loop", "oracle"]
    assert all(r.asked for r in launcher.running)
    assert not any(r.killed for r in launcher.running)


def test_a_run_stopped_from_outside_does_not_count_as_failed(tmp_path: Path) -> None:
    grid = FakeGrid(tmp_path, methods=("loop", "top_only", "oracle"))
    outcome = run(grid, FakeLauncher(grid, codes={"loop": 75}))
    assert outcome.stopped
    assert not outcome.failed
    assert methods(outcome.done) == ["oracle"]  # top_only waits for another time


def test_with_keep_results_states_and_earlier_models_go_when_nobody_forks_from_them_any_more(
    tmp_path: Path,
) -> None:
    grid = FakeGrid(tmp_path, methods=("loop", "oracle"), keep="results")
    grid.to_fork = {grid.cell("loop")}
    stores = {name: grid.store(grid.cell(name)) for name in ("loop", "oracle")}
    for store in stores.values():
        for round_ in (0, 1):
            store.state(round_).parent.mkdir(parents=True)
            store.state(round_).write_bytes(b"state")
            store.model(round_).write_bytes(b"model")
    run(grid, FakeLauncher(grid))
    assert stores["loop"].state(0).exists()
    assert not stores["oracle"].state(0).exists()
    grid.to_fork = set()
    run(grid, FakeLauncher(grid))
    for store in stores.values():
        assert [p for p in sorted(store.root.rglob("*")) if p.is_file()] == [store.model(1)]
