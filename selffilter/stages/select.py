"""Mix the most confident rows with diverse ones: what the next round trains on.

Leaves ``selection/SSSSS.parquet``, one file a shard, and ``selection/subset.npy``; what `removals`,
`watching` and `against_truth` leave.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selffilter.config import SelectConfig
from selffilter.errors import UserError
from selffilter.evaluation.truth import Truth
from selffilter.planning import RoundSteps, ranks_by_merit, samples_after
from selffilter.pool.facts import pool_facts
from selffilter.pool.failures import count_by_reason
from selffilter.reading_costs import materialising_advice, training_sets
from selffilter.selecting.choice import Candidates, Choice, choose
from selffilter.selecting.clean_share import CleanShare, clean_share
from selffilter.selecting.cuts import Rule
from selffilter.selecting.drift import memorisation_cue
from selffilter.selecting.guard import Alarm, Widening, check
from selffilter.selecting.merit import merit
from selffilter.selecting.on_disk import Scores, read_scores, write_selection
from selffilter.selecting.scratch import Scratch
from selffilter.stages.against_truth import against_truth
from selffilter.stages.context import RunContext, Summary
from selffilter.stages.groupings import Groupings
from selffilter.stages.removals import NAME, Removals, find_removals
from selffilter.stages.score import NULL
from selffilter.stages.watching import Before, Seen, look_at, write_seen
from selffilter.store import write_atomically
from selffilter.tables import has_column, read_table
from selffilter.training.batch_plan import exposures


def select(context: RunContext, steps: RoundSteps) -> Summary:
    """Select on rank 0; the others wait for the marker.

    Returns:
        The counts of the mix; where every indexed row is; how it moved and whom it favours; the
        memorisation cue; what the guard said; and what `against_truth` says.

    Raises:
        UserError: If the guard stops the run.
    """
    if not context.team.is_main:
        return {}
    c, round_ = context.config, steps.round
    context.begin(steps, "select", steps.end)
    folder = context.store.stage(round_, "select")
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Scratch(c.select.memory_gb * 1e9, folder)
    title = f"round {round_}  select"
    context.screen.doing(title, "reads the scores")
    scores = _read(context, round_, scratch)
    scores_N, base_N = scores.columns[c.score.signal], scores.in_base
    merit_N = scores_N
    if ranks_by_merit(c):
        merit_N = _merit(context, round_, scores)
        write_atomically(_merit_file(context, round_), lambda file: np.save(file, merit_N))

    groupings = Groupings(context, round_, scratch)
    removals = find_removals(context, round_, merit_N, base_N, groupings, scratch)
    if removals is not None:
        removals.write(folder / NAME)
        base_N[removals.rows_R] = False
    candidates = Candidates(
        scores_N,
        base_N,
        context.pool.uids_of,
        merit_N,
        scores.columns,
        balance=groupings.asked(c.select.balance),
        strata=groupings.asked(c.select.diverse_by),
        clean=_clean_share(context, round_, scores),
    )
    context.screen.doing(title, "chooses")
    before = Before.of(context, round_, scratch)
    choice, seen, guarded = _choose(context, steps, candidates, groupings, before, scratch)
    context.screen.doing(title, "writes the selection")
    write_selection(folder, choice, context.pool, round_, context.base.source_weight, scratch)

    context.screen.doing(title, "looks at the selection")
    summary: Summary = choice.counts() | {"account": _account(scores, scores_N, base_N, removals)}
    if candidates.clean is not None:
        summary["clean_share"] = candidates.clean.share
        summary["clean_share_error"] = candidates.clean.standard_error
    summary |= seen.summary | guarded
    summary |= write_seen(context, round_, seen, choice, scores, base_N, scratch)
    below_N = ~(merit_N >= choice.threshold)  # all of them where nothing is kept for its score
    summary |= _cue(context, steps, scores, below_N, before)
    if c.evaluate.truth:
        truth = Truth(Path(c.evaluate.truth), context.pool)
        summary |= against_truth(truth, base_N, scores_N, choice, folder)
    coming = [s for s in training_sets(c, context.base.size) if s.first_round == round_ + 1]
    if advice := materialising_advice(c, coming, pool_facts(context.pool)):
        context.screen.say(advice)
    return summary


def _read(context: RunContext, round_: int, scratch: Scratch) -> Scores:
    """Read the signal that rows are selected by, and those that cuts go by."""
    c = context.config
    cuts = [Rule.of_words(words, "select.cuts").signal for words in c.select.cuts]
    signals = list(dict.fromkeys([c.score.signal, *cuts]))
    return read_scores(context.store.stage(round_, "score"), context.pool, signals, scratch)


# --- choosing, and the guard ------------------------------------------------------------------


def _choose(
    context: RunContext,
    steps: RoundSteps,
    candidates: Candidates,
    groupings: Groupings,
    before: Before | None,
    scratch: Scratch,
) -> tuple[Choice, Seen, Summary]:
    """Choose; if the guard has something against it and may, once more from a wider mix.

    Returns:
        The choice, what it is like, and what the guard said of it.

    Raises:
        UserError: If the guard is to stop the run.
    """
    guard, round_ = context.config.guard, steps.round
    watched = groupings.watched()

    def chosen(widening: Widening) -> tuple[Choice, Seen, list[Alarm]]:
        choice = choose(
            candidates,
            _widened(context.config.select, round_, widening),
            seed=context.config.seed,
            round_=round_,
            samples=samples_after(context.config, round_),
            scratch=scratch,
        )
        seen = look_at(choice, candidates.base_N, watched, before, candidates.scores_N)
        return choice, seen, check(seen.measured, guard)

    widening = _widening_before(context, round_)
    choice, seen, alarms = chosen(widening)
    for alarm in alarms:
        context.screen.say(f"round {round_}  guard: {alarm.sentence}")
    if alarms and guard.action == "stop":
        raise UserError(
            f"the guard stops the run in round {round_}: {alarms[0].sentence} Look at "
            f"`selffilter compare` and the selections; go on with guard.action=warn or widen, or "
            f"with guard.{alarms[0].name}=null."
        )
    if alarms and guard.action == "widen":
        widening = widening.after(alarms)
        select = _widened(context.config.select, round_, widening)
        context.screen.say(
            f"round {round_}  guard: the mix is widened to keep {select.keep(round_):.4g} and draw "
            f"{select.diverse(round_):.4g}, here and from here on"
        )
        choice, seen, _ = chosen(widening)
    return (
        choice,
        seen,
        {
            "alarms": [dataclasses.asdict(alarm) for alarm in alarms],
            "widened_draw": widening.draw,
            "widened_keep": widening.keep,
        },
    )


def _widening_before(context: RunContext, round_: int) -> Widening:
    """Return how far the mix was widened in the round before."""
    if not round_:
        return Widening()
    before = context.store.summary(round_ - 1, "select")
    return Widening(before.get("widened_draw", 0), before.get("widened_keep", 0))


def _widened(select: SelectConfig, round_: int, widening: Widening) -> SelectConfig:
    diverse, keep = widening.fractions(select.diverse(round_), select.keep(round_))
    return dataclasses.replace(select, keep_fraction=[keep], diverse_fraction=[diverse])


# --- what else a summary says -----------------------------------------------------------------


def _clean_share(context: RunContext, round_: int, scores: Scores) -> CleanShare | None:
    """Bound the share of clean rows, if this round's model has scored wrong pairs of the probe."""
    path = context.store.stage(round_, "score") / NULL
    signal = context.config.score.signal
    if not path.exists() or not has_column(path, signal):
        return None
    fresh_N = scores.probe_N & (scores.scored_round_N == round_)
    null_m = read_table(path, [signal])[signal].to_numpy()
    return clean_share(scores.columns[signal][fresh_N], null_m)


def _merit(context: RunContext, round_: int, scores: Scores) -> NDArray[np.float32]:
    """Return what rows are ranked by: see `merit`."""
    c, before_N = context.config, None
    if round_:
        # A fork may have begun from a run that did not write it.
        path = _merit_file(context, round_ - 1)
        folder = context.store.stage(round_ - 1, "score")
        before_N = (
            np.load(path)
            if path.exists()
            else _merit(context, round_ - 1, read_scores(folder, context.pool, [c.score.signal]))
        )
    return merit(
        scores.columns[c.score.signal],
        scores.scored_round_N == round_,
        before_N,
        half_life_rounds=c.select.memory_half_life,
        rounds=round_ + 1,
    )


def _merit_file(context: RunContext, round_: int) -> Path:
    return context.store.stage(round_, "select") / "merit.npy"


def _cue(
    context: RunContext,
    steps: RoundSteps,
    scores: Scores,
    below_N: NDArray[np.bool_],
    before: Before | None,
) -> Summary:
    """Compare consumed diverse rows with the probe; all of the bootstrap's rows are diverse.

    Only scores of this round's model count, and of rows outside the confident share.
    """
    scores_N = scores.columns[context.config.score.signal]
    consumed, _ = exposures(context.plan(steps), steps.steps)
    if before is not None:
        consumed = consumed[before.diverse_N[consumed]]
    counts_N = below_N & np.isfinite(scores_N) & (scores.scored_round_N == steps.round)
    cue = memorisation_cue(
        scores_N[consumed[counts_N[consumed]]], scores_N[scores.probe_N & counts_N]
    )
    return {
        "cue": cue.difference,
        "cue_sd": cue.in_sd,
        "cue_sd_error": cue.standard_error,
        "cue_consumed_rows": cue.consumed,
        "cue_probe_rows": cue.probe,
    }


def _account(
    scores: Scores,
    scores_N: NDArray[np.float32],
    base_N: NDArray[np.bool_],
    removals: Removals | None,
) -> dict[str, int]:
    """Say where every indexed row is: base (scored or not), removed, probe, outside, or failed."""
    scored_N = np.isfinite(scores_N)
    account = {
        "indexed": len(scores_N),
        "base_scored": int((base_N & scored_N).sum()),
        "base_not_scored": int((base_N & ~scored_N).sum()),
        "probe": int(scores.probe_N.sum()),
        "outside": int((scores.outside_N & ~scores.probe_N).sum()),
    }
    removed = {} if removals is None else removals.counts()
    return account | removed | count_by_reason(scores.failure_N)
