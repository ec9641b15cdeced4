"""Score every readable row of the pool; each rank its own shards.

Leaves ``scores/SSSSS.parquet``, one file a shard: the file is there = the shard is scored.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from selffilter.clip.checkpoint import fingerprint
from selffilter.clip.model import load_weights
from selffilter.clip.reference import open_reference
from selffilter.evaluation.evaluate import EvaluationSettings
from selffilter.planning import FEWEST_NULL_ROWS, NULL_ROWS, RoundSteps, scores_from
from selffilter.pool.record import pool_record
from selffilter.scoring.afresh import Afresh
from selffilter.scoring.embeddings.folder import EmbeddingWriter
from selffilter.scoring.given import (
    GivenScores,
    carried_verdicts,
    decode_verdicts,
    write_given_scores,
)
from selffilter.scoring.pool_pass import PoolPass
from selffilter.scoring.provenance import model_record
from selffilter.scoring.signals.facts import Target
from selffilter.scoring.signals.find import find_signal
from selffilter.scoring.signals.signal import Need
from selffilter.stages.context import RunContext, Summary
from selffilter.store import link
from selffilter.tables import shard_file
from selffilter.targets import encode_target, open_target
from selffilter.training.batch_plan import exposures

NULL = Path("about") / "null.parquet"
"""What signals say of wrong pairs."""

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
        Where the scores come from (see `planning.scores_from`), the signals, and which weights.
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
    summary: Summary = {"scores_from": source, "signal": c.score.signal}
    if source == "model" and context.team.is_main:
        weights = load_weights(context.store.model(round_))
        summary |= {"also": list(c.score.also), "model_fingerprint": fingerprint(weights)}
    return summary


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
    model = context.scorer(round_)
    signals = {name: find_signal(name) for name in (c.score.signal, *c.score.also)}
    needs = frozenset[Need]().union(*(signal.needs for signal in signals.values()))
    reference = _reference(context, round_) if "reference" in needs else None
    if reference is None:
        # The first round has none before it: its table lacks these columns.
        signals = {n: signal for n, signal in signals.items() if "reference" not in signal.needs}
    pool_pass = PoolPass(
        model,
        context.dataset(train=False),
        context.base,
        signals,
        batch_size=c.score.batch_size,
        workers=c.hardware.workers,
        autocast=AUTOCAST[c.hardware.precision],
        target=_target(context, model) if "target" in needs else None,
        reference=reference,
    )
    bank = None
    if pool_pass.needs_bank:
        path = folder / "bank.safetensors"
        context.team.decide(lambda: pool_pass.write_bank(path, c.score.bank_size))
        bank = pool_pass.read_bank(path)
    probe = context.base.probe_sample(NULL_ROWS)
    if len(probe) >= FEWEST_NULL_ROWS:
        context.team.decide(lambda: pool_pass.write_null(folder / NULL, probe, bank))
    afresh = _afresh(context, round_)
    rows = sum(len(afresh.rows(s)) for s in shards if not shard_file(folder, s).exists())
    embeddings = None
    if c.score.keep_embeddings or c.select.needs_embeddings:
        weights = fingerprint(load_weights(context.store.model(round_)))
        made_by = {
            "source": pool_record(context.pool),
            "model": model_record(f"{c.name}, round {round_}", weights, model, context.recipe),
            "precision": c.hardware.precision,
        }
        width = int(context.recipe.model_config["embed_dim"])
        embeddings = EmbeddingWriter(folder / "embeddings", width, context.pool.shards, made_by)
    with context.screen.bar(f"round {round_}  score", rows) as bar:

        def progress(samples: int) -> None:
            bar.advance(samples)
            context.stop.check()

        pool_pass.score_shards(
            shards, folder, round_, bank, progress, afresh=afresh, embeddings=embeddings
        )


def _afresh(context: RunContext, round_: int) -> Afresh:
    c, consumed = context.config, None
    steps = context.schedule[round_]
    if c.score.rescore == "unconsumed":
        consumed, _ = exposures(context.plan(steps), steps.steps)
    before = context.store.stage(round_ - 1, "score") if round_ else None
    return Afresh(context.base, c.seed, round_, c.score.fraction, consumed, before)


def _target(context: RunContext, model: nn.Module) -> Target:
    c = context.config
    data = open_target(str(c.score.target))
    settings = EvaluationSettings(
        c.score.batch_size, c.hardware.workers, autocast=AUTOCAST[c.hardware.precision]
    )
    return encode_target(model, context.recipe, data, settings)


def _reference(context: RunContext, round_: int) -> nn.Module | None:
    """Return the model that signals compare the scorer with; None if there is none yet."""
    if context.config.score.reference is not None:
        spec, device = context.config.score.reference, context.team.device
        return open_reference(spec, context.recipe, device, "score.reference").model
    return context.scorer(round_ - 1) if round_ else None
