"""`selffilter experiment`: check the grid, run it, and write what came out."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from pathlib import Path

from rich.console import Console
from rich.table import Table

from selffilter.endings import EXIT_STOPPED
from selffilter.errors import UserError
from selffilter.experiments.grid import BOOTSTRAP, Job, expand
from selffilter.experiments.planned import Cost, Grid
from selffilter.experiments.processes import Processes
from selffilter.experiments.report import write_report
from selffilter.experiments.runner import Outcome, Runner
from selffilter.experiments.schema import read_experiment
from selffilter.interrupt import StopRequest
from selffilter.tracking.console import Screen

OK, FAILED = 0, 1
"""Exit codes: all done; some run failed. Asked to stop, and all is saved: `EXIT_STOPPED`."""


def run_experiment(
    file: Path,
    *,
    jobs: int = 1,
    only: Collection[str] = (),
    seeds: Collection[int] = (),
    dry_run: bool = False,
    report_only: bool = False,
) -> int:
    """Run what is not done of an experiment, and write results and report.

    Args:
        file: See `read_experiment`.
        jobs: Runs at a time.
        only: Some of the methods; empty: all.
        seeds: Some of the seeds; empty: all.
        dry_run: Say what would run, and stop.
        report_only: Run nothing; write the report of what is finished.

    Returns:
        An exit code.

    Raises:
        UserError: For whatever can be known to be wrong before anything starts.
        Stopped: Asked to stop while the pools were being indexed.
    """
    if jobs < 1:
        raise UserError(f"--jobs {jobs}: give at least 1.")
    experiment = read_experiment(file)
    screen, stop = Screen(), StopRequest()
    with stop:
        grid = Grid(experiment, expand(experiment, only, seeds), screen, stop)
        outcome = Outcome()
        if not report_only:
            costs = grid.check()
            if dry_run:
                print_grid(grid, costs)
                return OK
            outcome = Runner(grid, costs, Processes(jobs), jobs, screen, stop).run()
        _say_how_it_ended(outcome, screen)
        command = shlex.join(["selffilter", "experiment", str(file)])
        if path := write_report(grid.with_jobs(expand(experiment)), command):
            screen.say(f"report: {path}")
        else:
            screen.say("no run is finished yet: there is nothing to report")
    if outcome.failed or outcome.blocked:
        return FAILED
    return EXIT_STOPPED if outcome.stopped else OK


def print_grid(grid: Grid, costs: dict[Job, Cost]) -> None:
    """Print what would run: a row a job, and the sum of what is left."""
    console = Console(highlight=False)
    table = Table(box=None, header_style="bold")
    names = {
        job: f"{job.cell}" + (" (bootstrap alone)" if job.until == BOOTSTRAP else "")
        for job in grid.jobs
    }
    table.add_column("run", min_width=max(map(len, names.values())))
    for title in ("samples", "of them shared", "PFLOPs", "state"):
        table.add_column(title, justify="right")
    left = 0.0
    for job in grid.jobs:
        cost, done = costs[job], grid.is_done(job)
        begun = grid.store(job.cell).config_path.exists()
        left += 0.0 if done else cost.flops
        state = "done" if done else "begun" if begun else "–"
        shared = f"{cost.shared_samples:,}" if cost.shared_samples else "–"
        table.add_row(names[job], f"{cost.samples:,}", shared, f"{cost.flops / 1e15:.4g}", state)
    console.print(table)
    total = sum(cost.flops for cost in costs.values())
    runs = len({job.cell for job in grid.jobs})
    console.print(
        f"\n{runs} runs, {total / 1e15:.4g} PFLOPs in all, {left / 1e15:.4g} of them left "
        f"(training and every pass over the pool) → {grid.experiment.root}"
    )


def _say_how_it_ended(outcome: Outcome, screen: Screen) -> None:
    for job, why in outcome.failed.items():
        screen.say(f"failed: {job.cell}: {why}")
    for job in outcome.blocked:
        screen.say(f"left out, for what it needs has failed: {job.cell}")
