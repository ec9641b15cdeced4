"""After the last round: put the model and the subset where their next user looks for them.

Leaves ``final/``: an open_clip folder, ``subset.npy`` and ``compute.json``.
"""

from __future__ import annotations

from pathlib import Path

from selffilter.clip.flops import forward_flops
from selffilter.clip.model import export, load_weights
from selffilter.evaluation.truth import Truth
from selffilter.planning import compute_spent
from selffilter.stages.context import RunContext, Summary
from selffilter.stages.showing import exported
from selffilter.store import copy_atomically, without_nan, write_json


def finish(context: RunContext) -> None:
    """Export; doing it again changes nothing."""
    context.team.decide(lambda: _finish(context))


def _finish(context: RunContext) -> None:
    store, config = context.store, context.config
    last = config.rounds.count - 1
    export(store.final, context.recipe, load_weights(store.model(last)))
    selected = last if config.rounds.final_selection else last - 1
    if selected >= 0:
        subset = store.stage(selected, "select") / "subset.npy"
        copy_atomically(subset, store.final / "subset.npy")
    write_json(store.final / "compute.json", _compute(context))
    context.tracker.end_run(exported(store, last, selected))


def _compute(context: RunContext) -> Summary:
    """Count FLOPs: of training, and of the passes over the pool that training has used."""
    c = context.config
    flops = forward_flops(context.recipe)
    account: Summary = dict(compute_spent(c, context.base.size, context.pool.rows, flops))
    if c.evaluate.truth:
        truth = Truth(Path(c.evaluate.truth), context.pool)
        clean = [
            truth.precision(rows) * len(rows)
            for steps in context.schedule
            for rows in context.plan(steps).consumed(steps.steps)
        ]
        account["clean_share"] = without_nan(sum(clean) / account["samples_seen"])
    return account
