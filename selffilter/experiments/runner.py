"""Running a grid: what is ready is started, what fails is reported, the rest goes on.

All state is in the run directories: a run with its last file is done, one with a bootstrap can be
forked. So the same command goes on wherever it was stopped.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from selffilter.endings import EXIT_STOPPED
from selffilter.errors import UserError
from selffilter.experiments.grid import BOOTSTRAP, END, Job
from selffilter.experiments.planned import Cost, Grid
from selffilter.experiments.processes import Launcher, Running, last_words
from selffilter.interrupt import StopRequest
from selffilter.rundir.numbers import final_numbers
from selffilter.store import iterate_jsonl
from selffilter.tracking.console import Screen
from selffilter.tracking.pace import clock

POLL_S = 0.2
REPORT_S = 60.0


@dataclass
class Outcome:
    """How it ended.

    Attributes:
        done: Jobs that are finished, now or before.
        failed: Job → what it said last.
        blocked: Jobs that could not begin, since one they wait for failed.
        stopped: Whether somebody asked to stop; what ran is saved.
    """

    done: list[Job] = field(default_factory=list)
    failed: dict[Job, str] = field(default_factory=dict)
    blocked: list[Job] = field(default_factory=list)
    stopped: bool = False


@dataclass
class _AtWork:
    running: Running
    begun: float
    share_done: float


class Runner:
    """Runs the jobs of a grid, several at a time.

    Args:
        grid: The runs.
        costs: See `Grid.check`.
        launcher: Begins runs.
        jobs: How many at a time.
        screen: Where a person looks.
        stop: Looked at again and again.
    """

    def __init__(
        self,
        grid: Grid,
        costs: dict[Job, Cost],
        launcher: Launcher,
        jobs: int,
        screen: Screen,
        stop: StopRequest,
    ) -> None:
        self._grid, self._costs, self._launcher = grid, costs, launcher
        self._jobs, self._screen, self._stop = jobs, screen, stop
        self._at_work: dict[Job, _AtWork] = {}
        self._waiting: list[Job] = []
        self._outcome = Outcome()
        self._since = time.monotonic()
        self._flops_done = 0.0

    def run(self) -> Outcome:
        """Run what is not done.

        Returns:
            What became of each job.

        Raises:
            KeyboardInterrupt: Asked to stop a second time; children are stopped at once.
        """
        for job in self._grid.jobs:
            done = self._grid.is_done(job)
            (self._outcome.done if done else self._waiting).append(job)
        total = len(self._grid.jobs)
        if self._outcome.done:
            self._screen.say(f"{len(self._outcome.done)} of {total} runs are done already")
        self._tidy()
        reported = time.monotonic()
        try:
            while self._waiting or self._at_work:
                self._reap()
                if self._stop.requested:
                    self._ask_all_to_stop()
                    break
                self._begin_what_is_ready()
                if not self._at_work:
                    break  # what is left waits for a run that was stopped from outside
                if time.monotonic() - reported >= REPORT_S:
                    reported = time.monotonic()
                    self._report()
                time.sleep(POLL_S)
        finally:
            for work in self._at_work.values():
                work.running.kill()
        return self._outcome

    # --- beginning ----------------------------------------------------------------------------

    def _begin_what_is_ready(self) -> None:
        for job in list(self._waiting):
            if len(self._at_work) >= self._jobs:
                return
            if self._is_blocked(job):
                self._waiting.remove(job)
                self._outcome.blocked.append(job)
                self._screen.say(f"✗ {job.cell}: left out, for what it needs has failed")
            elif self._is_ready(job):
                self._waiting.remove(job)
                self._begin(job)

    def _is_ready(self, job: Job) -> bool:
        ready = all(self._grid.is_finished(cell) for cell in job.waits_for)
        return ready and (not job.forks or self._grid.reached_bootstrap(job.source))

    def _is_blocked(self, job: Job) -> bool:
        lost = {other.cell for other in (*self._outcome.failed, *self._outcome.blocked)}
        needs_bootstrap = job.forks and not self._grid.reached_bootstrap(job.source)
        return any(cell in lost for cell in job.waits_for) or (
            needs_bootstrap and job.source in lost
        )

    def _begin(self, job: Job) -> None:
        store = self._grid.store(job.cell)
        goes_on = " (goes on)" if store.config_path.exists() else ""
        try:
            words = self._grid.prepare(job)
        except UserError as error:
            self._fail(job, str(error))
            return
        share = self._share_done(job)
        log = self._grid.log(job.cell)
        self._at_work[job] = _AtWork(self._launcher.start(words, log), time.monotonic(), share)
        what = "bootstrap of " if job.until == BOOTSTRAP else ""
        self._screen.say(f"▸ {what}{job.cell}{goes_on}")

    # --- ending -------------------------------------------------------------------------------

    def _reap(self) -> None:
        for job, work in list(self._at_work.items()):
            code = work.running.poll()
            if code is None:
                continue
            del self._at_work[job]
            share = 1.0 if code == 0 else self._share_done(job)
            self._flops_done += (share - work.share_done) * self._costs[job].flops
            took = clock(time.monotonic() - work.begun)
            if code == 0 and self._grid.is_done(job):
                self._outcome.done.append(job)
                count = f"{len(self._outcome.done)}/{len(self._grid.jobs)}"
                self._screen.say(
                    f"✓ {job.cell}  {took}  {self._headline(job)}  [{count}{self._left()}]"
                )
                self._tidy()
            elif code == EXIT_STOPPED:
                self._outcome.stopped = True
                self._screen.say(f"‖ {job.cell}: stopped and saved after {took}")
            else:
                log = self._grid.log(job.cell)
                self._fail(job, f"exit code {code}: {last_words(log)}\n  log: {log}")

    def _fail(self, job: Job, why: str) -> None:
        self._outcome.failed[job] = why
        self._screen.say(f"✗ {job.cell} failed: {why}")

    def _ask_all_to_stop(self) -> None:
        self._outcome.stopped = True
        for work in self._at_work.values():
            work.running.ask_to_stop()
        if self._at_work:
            self._screen.say(f"waiting until {len(self._at_work)} running have saved …")
        while self._at_work:
            self._reap()
            time.sleep(POLL_S)

    def _tidy(self) -> None:
        """With ``keep: results``, drop what nothing will go on from."""
        if self._grid.experiment.keep != "results":
            return
        needed = self._grid.sources_of_forks_to_come()
        for job in self._outcome.done:
            if job.until == END and job.cell not in needed:
                self._grid.store(job.cell).keep_results_only()

    # --- saying -------------------------------------------------------------------------------

    def _headline(self, job: Job) -> str:
        primary = self._grid.experiment.primary
        for (set_, metric), value in final_numbers(self._grid.store(job.cell)).items():
            if primary in (metric, f"{set_}/{metric}"):
                return f"{primary} {100 * value:.1f} %"
        return ""

    def _share_done(self, job: Job) -> float:
        """Return how far a run is, as a share of what it had to do when it began here."""
        cost, store = self._costs[job], self._grid.store(job.cell)
        rounds = store.rounds()
        if not rounds or cost.samples <= cost.shared_samples:
            return 0.0
        records = iterate_jsonl(store.round(rounds[-1]) / "metrics.jsonl")
        seen = max((record["samples_seen"] for record in records), default=0)
        return min(
            1.0, max(0.0, (seen - cost.shared_samples)) / (cost.samples - cost.shared_samples)
        )

    def _report(self) -> None:
        running = ", ".join(
            f"{job.cell} {100 * self._share_done(job):.0f} %" for job in self._at_work
        )
        done = f"{len(self._outcome.done)}/{len(self._grid.jobs)}"
        self._screen.say(f"  [{done} runs{self._left()}]  {running}")

    def _left(self) -> str:
        """Estimate the time left from the FLOPs done since this command began."""
        elapsed = time.monotonic() - self._since
        partly = {
            job: (self._share_done(job), work.share_done) for job, work in self._at_work.items()
        }
        flops = self._flops_done + sum(
            (now - before) * self._costs[job].flops for job, (now, before) in partly.items()
        )
        left = sum(self._costs[job].flops for job in self._waiting) + sum(
            (1 - now) * self._costs[job].flops for job, (now, _) in partly.items()
        )
        text = f", {clock(elapsed)} elapsed"
        if flops > 0 and left > 0:
            text += f", {clock(left / flops * elapsed)} left"
        return text
