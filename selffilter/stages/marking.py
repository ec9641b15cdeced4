"""The marker of a stage, and behind a round's last stage what trackers are shown of the round."""

from __future__ import annotations

from selffilter.planning import RoundSteps, stages_of
from selffilter.stages.context import RunContext, Summary
from selffilter.stages.showing import FinishedRound
from selffilter.store import without_nan


def mark_done(context: RunContext, steps: RoundSteps, stage: str, summary: Summary) -> None:
    """Finish a stage: its marker comes last of all."""

    def mark() -> None:
        plain: Summary = without_nan(summary)
        *earlier, last = stages_of(context.config, steps.round)
        if stage == last:
            whole = context.store.round_summary(steps.round, earlier) | plain
            context.log("round_summary", steps.round, stage, steps.end, whole)
            context.tracker.end_round(FinishedRound(context, steps, whole))
        context.store.mark_done(steps.round, stage, plain)

    context.team.decide(mark)
