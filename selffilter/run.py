"""The loop: rounds of train → score → select.

A CLIP model is trained from scratch on a noisy pool; it scores the whole pool; the most confident
rows, mixed with random diverse ones, are what the next round trains on (arXiv 2606.23611).

Everything that a stage needs lies on disk before it begins, and everything it makes lies there
before its marker is written. So a run goes on wherever it was stopped, stages can be separate
jobs, and `forking.fork` starts another run from a round of this one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext, suppress

from selffilter.begun import sweep_folder
from selffilter.config import Config
from selffilter.errors import Lost, UserError
from selffilter.interrupt import Stopped, StopRequest
from selffilter.opening import open_run
from selffilter.planning import RoundSteps, check_ranks, last_stage, round_steps, stages_of
from selffilter.pool.in_flight import loss_of, reading_now
from selffilter.stages.context import RunContext, Summary
from selffilter.stages.finish import finish
from selffilter.stages.marking import mark_done
from selffilter.stages.score import score
from selffilter.stages.select import select
from selffilter.stages.train import train
from selffilter.store import Lease, RunStore
from selffilter.team import Team
from selffilter.tracking.console import Screen
from selffilter.tracking.open import open_trackers
from selffilter.tracking.trackers import Tracker

STAGES: dict[str, Callable[[RunContext, RoundSteps], Summary]] = {
    "train": train,
    "score": score,
    "select": select,
}


def run(config: Config, team: Team, screen: Screen, only: str | None = None) -> RunStore:
    """Run, or go on with, the run that a config describes.

    Args:
        config: What to do.
        team: The ranks.
        screen: Where a person looks.
        only: "train", "score" or "select": do the next stage, which must be this one, and stop.

    Raises:
        UserError: For what the user can mend; before any training where that is possible.
        Stopped: When asked to stop by a signal; all is saved.
        TornDown: When torchrun ends the ranks.
    """
    check_ranks(config, team.size)
    store = RunStore(config.run_dir)
    stop = StopRequest()
    lease = Lease(store.root, screen.say, stop.ask) if team.is_main else nullcontext()
    team.while_waiting = stop.check_torn_down
    team.reading = reading_now
    kept = screen.keeping(store.root / "progress.json") if team.is_main else nullcontext()
    with stop, lease as held, kept:
        if isinstance(held, Lease) and held.was_left:
            sweep_folder(store.root)  # the other ranks write nothing before rank 0's first decision
        pinned = team.decide(lambda: open_run(config, store, screen, stop, team.size))
        tracker = open_trackers(config, store, silent=not team.is_main, say=screen.say)
        context = RunContext.of(config, store, team, screen, tracker, stop, pinned)
        try:
            rounds(context, only)
        except Stopped:
            _close_after(tracker)
            stop.check_torn_down()
            raise
        except BaseException:
            _close_after(tracker)
            raise
        tracker.close()
    return store


def _close_after(tracker: Tracker) -> None:
    """Close after an error, which is the one to be heard: of a full disk both would speak."""
    with suppress(OSError):
        tracker.close()


def rounds(context: RunContext, only: str | None) -> None:
    """Train, score, select; again and again. What is done is not done again."""
    for steps in round_steps(context.config):
        for stage in stages_of(context.config, steps.round):
            if context.is_done(steps.round, stage):
                continue
            _refuse_other(only, stage, steps.round)
            summary = do_stage(context, steps, stage)
            mark_done(context, steps, stage, summary)
            if only and (steps.round, stage) != last_stage(context.config):
                return
        context.show_round(steps)
    finish(context)


def do_stage(context: RunContext, steps: RoundSteps, stage: str) -> Summary:
    """Do a stage; a data loader process that was killed is told by stage, round and shards.

    Raises:
        Lost: In that case: torch says it from a signal handler, at any line of the stage.
    """
    try:
        return STAGES[stage](context, steps)
    except (Lost, RuntimeError) as error:
        lost = str(error) if isinstance(error, Lost) else loss_of(error)
        if lost is None:
            raise
        where = f"{stage} of round {steps.round}"
        if context.team.size > 1:
            where += f", rank {context.team.rank}"
        raise Lost(f"{where}: {lost}. What is saved stays; the same command goes on") from error


def _refuse_other(only: str | None, stage: str, round_: int) -> None:
    if only not in (None, stage):
        raise UserError(
            f"--only {only}: the next stage of this run is {stage!r} of round {round_}."
        )
