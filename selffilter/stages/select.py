"""Mix the most confident rows with diverse ones: what the next round trains on.

Leaves ``selection/SSSSS.parquet``, one file a shard, and ``selection/subset.npy``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selffilter.evaluation.truth import Truth
from selffilter.planning import RoundSteps, ranks_by_merit
from selffilter.pool.facts import pool_facts
from selffilter.pool.failures import count_by_reason
from selffilter.reading_costs import materialising_advice, training_sets
from selffilter.selecting.drift import jaccard, memorisation_cue
from selffilter.selecting.merit import merit
from selffilter.selecting.mix import Mix, select_mix
from selffilter.selecting.on_disk import Scores, read_scores, read_share, write_selection
from selffilter.stages.context import RunContext, Summary
from selffilter.store import write_atomically
from selffilter.training.batch_plan import exposures


def select(context: RunContext, steps: RoundSteps) -> Summary:
    """Select on rank 0; the others wait for the marker.

    Returns:
        The counts of the mix; where every indexed row is; overlap with the selection before; the
        memorisation cue; and where the truth is known, precision and AUC.
    """
    if not context.team.is_main:
        return {}
    c, round_, shards = context.config, steps.round, context.pool.shards
    context.begin(steps, "select", steps.end)
    scores = read_scores(context.store.stage(round_, "score"), shards, c.score.signal)
    merit_N = scores.scores_N
    if ranks_by_merit(c):
        merit_N = _merit(context, round_, scores)
        write_atomically(_merit_file(context, round_), lambda file: np.save(file, merit_N))
    mix = select_mix(
        scores.rows_N[scores.in_base],
        merit_N[scores.in_base],
        context.pool.uids_of,
        keep_fraction=c.select.keep(round_),
        diverse_fraction=c.select.diverse(round_),
        seed=c.seed,
        round_=round_,
    )
    folder = context.store.stage(round_, "select")
    write_selection(folder, mix, context.pool, round_, context.base.source_weight)

    summary: Summary = mix.counts() | {"account": _account(scores)}
    below_N = ~(merit_N >= mix.threshold)  # all of them where nothing is kept for its score
    summary |= _cue(context, steps, scores, below_N)
    if round_:
        before = read_share(context.store.stage(round_ - 1, "select"), shards, "confident")
        summary["overlap"] = jaccard(before, mix.confident)
    if c.evaluate.truth:
        summary |= _against_truth(Truth(Path(c.evaluate.truth), context.pool), scores, merit_N, mix)
    coming = [s for s in training_sets(c, context.base.size) if s.first_round == round_ + 1]
    if advice := materialising_advice(c, coming, pool_facts(context.pool)):
        context.screen.say(advice)
    return summary


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
            else _merit(
                context, round_ - 1, read_scores(folder, context.pool.shards, c.score.signal)
            )
        )
    return merit(
        scores.scores_N,
        scores.scored_round_N == round_,
        before_N,
        half_life_rounds=c.select.memory_half_life,
        rounds=round_ + 1,
    )


def _merit_file(context: RunContext, round_: int) -> Path:
    return context.store.stage(round_, "select") / "merit.npy"


def _cue(
    context: RunContext, steps: RoundSteps, scores: Scores, below_N: NDArray[np.bool_]
) -> Summary:
    """Compare consumed diverse rows with the probe; all of the bootstrap's rows are diverse.

    Only scores of this round's model count, and of rows outside the confident share.
    """
    consumed, _ = exposures(context.plan(steps), steps.steps)
    if steps.round:
        before = context.store.stage(steps.round - 1, "select")
        diverse = read_share(before, context.pool.shards, "diverse")
        consumed = np.intersect1d(consumed, diverse, assume_unique=True)
    counts_N = below_N & np.isfinite(scores.scores_N) & (scores.scored_round_N == steps.round)
    cue = memorisation_cue(
        scores.scores_N[consumed[counts_N[consumed]]], scores.scores_N[scores.probe_N & counts_N]
    )
    return {
        "cue": cue.difference,
        "cue_sd": cue.in_sd,
        "cue_sd_error": cue.standard_error,
        "cue_consumed_rows": cue.consumed,
        "cue_probe_rows": cue.probe,
    }


def _account(scores: Scores) -> dict[str, int]:
    """Say where every indexed row is: base (scored or not), probe, outside, or failed and why."""
    scored, base = np.isfinite(scores.scores_N), scores.in_base
    account = {
        "indexed": len(scores.rows_N),
        "base_scored": int((base & scored).sum()),
        "base_not_scored": int((base & ~scored).sum()),
        "probe": int(scores.probe_N.sum()),
        "outside": int((scores.outside_N & ~scores.probe_N).sum()),
    }
    return account | count_by_reason(scores.failure_N)


def _against_truth(
    truth: Truth, scores: Scores, merit_N: NDArray[np.float32], mix: Mix
) -> dict[str, Any]:
    base = scores.in_base
    return {
        "precision": truth.precision(mix.confident),
        "selected_clean_share": truth.precision(mix.rows_K),
        "auc": truth.auc(scores.rows_N[base], merit_N[base]),
    }
