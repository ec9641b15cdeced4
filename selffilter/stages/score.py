"""Score every readable row of the pool; each rank its own shards.

Leaves ``scores/SSSSS.parquet``, one file a shard: the file is there = the shard is scored.
"""

from __future__ import annotations

from pathlib import Path

import torch

from selffilter.planning import RoundSteps, scores_from
from selffilter.scoring.given import (
    GivenScores,
    carried_verdicts,
    decode_verdicts,
    write_given_scores,
)
from selffilter.scoring.pool_pass import PoolPass
from selffilter.scoring.signals import find_signal
from selffilter.stages.context import RunContext, Summary
from selffilter.store import link
from selffilter.tables import shard_file

AUTOCAST = {
    "32-true": None,
    "bf16-mixed": torch.bfloat16,
    "bf16-true": torch.bfloat16,
    "16-mixed": torch.float16,
}
"""The dtype that encodes, by ``hardware.precision``; similarities are float32 in any case."""


def score(context: RunContext, steps: RoundSteps) -> Summary:
    """Write the score tables of a round.

    Returns:
        Where the scores come from (see `planning.scores_from`), and the signal.
    """
    c, round_ = context.config, steps.round
    context.begin(steps, "score", steps.end)
    folder = context.store.stage(round_, "score")
    mine = list(range(context.team.rank, context.pool.shards, context.team.size))
    source = scores_from(c, round_)
    if source == "model":
        _score_with_model(context, round_, mine, folder)
    elif source == "carried":
        for shard in mine:
            before = shard_file(context.store.stage(round_ - 1, "score"), shard)
            link(before, folder / before.name)
    else:
        _score_without_model(context, round_, mine, folder)
    context.team.wait_for_all()
    return {"scores_from": source, "signal": c.score.signal}


def _score_without_model(context: RunContext, round_: int, shards: list[int], folder: Path) -> None:
    """Write given scores, or none; what cannot be decoded is found out in the bootstrap round."""
    c = context.config
    todo = [shard for shard in shards if not shard_file(folder, shard).exists()]
    given = None
    if scores_from(c, round_) == "given":
        given = GivenScores(Path(str(c.score.given_scores)))
    if round_:
        verdicts = carried_verdicts(context.base, todo, context.store.stage(round_ - 1, "score"))
    else:
        dataset = context.dataset(train=False)
        workers = c.hardware.workers
        verdicts = decode_verdicts(dataset, context.base, todo, c.score.batch_size, workers)
    write_given_scores(given, context.base, verdicts, folder, c.score.signal, round_)


def _score_with_model(context: RunContext, round_: int, shards: list[int], folder: Path) -> None:
    c = context.config
    pool_pass = PoolPass(
        context.scorer(round_),
        context.dataset(train=False),
        context.base,
        {c.score.signal: find_signal(c.score.signal)},
        batch_size=c.score.batch_size,
        workers=c.hardware.workers,
        autocast=AUTOCAST[c.hardware.precision],
    )
    bank = None
    if pool_pass.needs_bank:
        path = folder / "bank.safetensors"
        context.team.decide(lambda: pool_pass.write_bank(path, c.score.bank_size))
        bank = pool_pass.read_bank(path)
    rows = sum(len(context.base.readable(s)) for s in shards if not shard_file(folder, s).exists())
    with context.screen.bar(f"round {round_}  score", rows) as bar:

        def progress(samples: int) -> None:
            bar.advance(samples)
            context.stop.check()

        pool_pass.score_shards(shards, folder, round_, bank, progress)
