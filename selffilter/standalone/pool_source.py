"""Scoring a pool's shards with any model: the pass of the loop, outside of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from selffilter.clip.checkpoint import Checkpoint
from selffilter.clip.reference import open_reference
from selffilter.config import PoolConfig
from selffilter.errors import UserError
from selffilter.indexing import index_dir_of, open_named
from selffilter.interrupt import StopRequest
from selffilter.pool.base import Base
from selffilter.pool.index import Pool
from selffilter.pool.reading import PoolDataset
from selffilter.pool.record import pool_record
from selffilter.scoring.embeddings.folder import EmbeddingWriter
from selffilter.scoring.pool_pass import PoolPass
from selffilter.scoring.signals.signal import Signal
from selffilter.standalone.facts_on_disk import facts_file, load_target_file, save_target
from selffilter.standalone.record import NO_ROUND, Record, begin_scores, make_record
from selffilter.standalone.scorers import (
    checkpoint_record,
    encode_target_set,
    find_signals,
    needs_of,
    open_scorer,
    signals_record,
    target_set_record,
)
from selffilter.standalone.settings import PERMUTATION, ScoreSettings
from selffilter.standalone.sharing import counting, deal
from selffilter.store import write_once
from selffilter.tables import shard_file
from selffilter.team import Team
from selffilter.tracking.console import Screen


@dataclass(frozen=True)
class _Scorer:
    signals: dict[str, Signal]
    model: Checkpoint
    reference: Checkpoint | None


def score_pool(
    sources: list[str],
    out: Path,
    settings: ScoreSettings,
    team: Team,
    screen: Screen,
    stop: StopRequest,
) -> None:
    """Score the shards of a part of a pool whose files are not there.

    Raises:
        UserError: If something that is named is not there or does not fit.
        Stopped: If asked to; what is scored stays.
        StoreGone: If a shard cannot be read.
    """
    signals = _checked_signals(settings)
    assert settings.model is not None
    model = open_scorer(settings.model, team.device, settings.temperature)
    reference = None
    if settings.reference is not None:
        spec, device = settings.reference, team.device
        reference = open_reference(spec, model.recipe, device, "--reference")
    scorer = _Scorer(signals, model, reference)
    pool = _open_pool(sources, settings, team, screen, stop)
    record = _record(pool, settings, scorer, team)
    for said in team.decide(lambda: begin_scores(out, record)):
        screen.say(f"note: {said}")
    pool_pass = _pass(pool, out, settings, scorer, team, screen)
    bank = None
    if pool_pass.needs_bank:
        path = facts_file(out, "bank.safetensors")

        def write_bank() -> None:
            write_once(path, lambda aside: pool_pass.write_bank(aside, settings.bank_size))

        team.decide(write_bank)
        bank = pool_pass.read_bank(path)
    writer = None
    if settings.keep_embeddings:
        made_by = {"source": record["source"], "model": record["scorer"]["model"]}
        made_by["precision"] = settings.precision
        width = int(model.recipe.model_config["embed_dim"])
        writer = EmbeddingWriter(out / "embeddings", width, pool.shards, made_by)

    def is_there(shard: int) -> bool:
        return shard_file(out, shard).exists() and (writer is None or writer.has(shard))

    mine = deal(pool.shards, settings.part, team, is_there)
    base = Base(pool, settings.seed)
    with screen.bar("score", sum(len(base.readable(shard)) for shard in mine)) as bar:
        progress = counting(bar, stop)
        pool_pass.score_shards(mine, out, NO_ROUND, bank, progress, embeddings=writer)


def _checked_signals(settings: ScoreSettings) -> dict[str, Signal]:
    if PERMUTATION in settings.signals:
        raise UserError(
            f"{PERMUTATION} is for ready embeddings. Here neg_clip_loss says nearly the same; or "
            "score with --embeddings first, and then OUT/embeddings."
        )
    if settings.columns:
        raise UserError(f"--column {settings.columns[0]}: shards have no such columns.")
    return find_signals(settings)


def _open_pool(
    sources: list[str], settings: ScoreSettings, team: Team, screen: Screen, stop: StopRequest
) -> Pool:
    """Index a pool, or open it: rank 0 looks, and the others are told the version."""

    def look() -> str:
        _, pool = open_named(
            sources,
            settings.index_dir,
            caption_key=settings.caption_key,
            allow_pipe=settings.allow_pipe,
            workers=settings.workers,
            screen=screen,
            stop=stop,
        )
        pool.check_shards(settings.allow_pipe)
        for problem in pool.problems():
            screen.say(f"broken tar: {problem}")
        return pool.version

    version: str = team.decide(look)
    return Pool(index_dir_of(sources, settings.index_dir), version)


def _record(pool: Pool, settings: ScoreSettings, scorer: _Scorer, team: Team) -> Record:
    described: Record = signals_record(settings, scorer.signals) | {
        "model": checkpoint_record(scorer.model),
        "precision": settings.precision,
        "max_image_pixels": PoolConfig.max_image_pixels,
        "max_image_bytes": PoolConfig.max_image_bytes,
    }
    if scorer.reference is not None:
        described["reference"] = checkpoint_record(scorer.reference)
    if settings.target is not None:
        described["target"] = target_set_record(settings.target, scorer.signals)
    return make_record(pool_record(pool), described, settings.seed, team.device.type)


def _pass(
    pool: Pool, out: Path, settings: ScoreSettings, scorer: _Scorer, team: Team, screen: Screen
) -> PoolPass:
    target = None
    if "target" in needs_of(scorer.signals):
        path, spec = facts_file(out, "target.safetensors"), str(settings.target)

        def encode(aside: Path) -> None:
            most = PoolConfig.max_image_pixels
            save_target(aside, encode_target_set(spec, scorer.model, settings, screen, most))

        team.decide(lambda: write_once(path, encode))
        target = load_target_file(path, team.device)
    dataset = PoolDataset(
        pool,
        scorer.model.recipe.transform(),
        scorer.model.recipe.tokenize,
        max_pixels=PoolConfig.max_image_pixels,
        max_image_bytes=PoolConfig.max_image_bytes,
        seed=settings.seed,
        every_caption=True,
        request_bytes=PoolConfig.request_bytes,
    )
    return PoolPass(
        scorer.model.model,
        dataset,
        Base(pool, settings.seed),
        scorer.signals,
        batch_size=settings.batch_size,
        workers=settings.workers,
        autocast=settings.autocast,
        target=target,
        reference=None if scorer.reference is None else scorer.reference.model,
    )
