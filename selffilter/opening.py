"""Opening a run: everything that can be wrong is found here, before any training."""

from __future__ import annotations

from pathlib import Path

from selffilter import environment
from selffilter.clip.model import find_recipe
from selffilter.clip.starting import build_to_train
from selffilter.config import Config, differences, read_run_config, refuse_changed, to_yaml
from selffilter.errors import UserError
from selffilter.evaluation.sets import open_sets
from selffilter.evaluation.truth import Truth
from selffilter.indexing import open_pool
from selffilter.inputs import fingerprints, inputs_of
from selffilter.interrupt import StopRequest
from selffilter.planning import encoded_in, outlook, stages_of
from selffilter.pool.base import Base
from selffilter.pool.index import Pool
from selffilter.rundir.moving import follow, note_continued
from selffilter.scoring.given import GivenScores
from selffilter.scoring.signals.find import find_signal
from selffilter.scoring.signals.signal import Need
from selffilter.selecting.clusters import require_faiss
from selffilter.selecting.cuts import Rule
from selffilter.stages.groupings import check_grouping
from selffilter.store import RunStore, read_object, write_json, write_text
from selffilter.targets import open_target
from selffilter.tracking.console import Screen
from selffilter.tracking.open import check_trackers


def open_run(
    config: Config, store: RunStore, screen: Screen, stop: StopRequest, ranks: int = 1
) -> dict[str, str]:
    """Create the run directory, or check that this config may go on with the one there is.

    Args:
        config: What to do.
        store: The run directory.
        screen: Where a person looks.
        stop: Asks to stop.
        ranks: How many there are, for the record.

    Returns:
        ``index_dir`` and ``version`` of the pool index that the run is pinned to.

    Raises:
        UserError: For whatever would end the run later.
        Stopped: When asked to, while indexing.
    """
    recipe = find_recipe(config.model.name, config.model.pretrained)
    build_to_train(recipe, config.model, fresh=False, device="meta")
    open_sets(config.evaluate.zero_shot)
    check_trackers(config)
    given = None
    if config.score.signal == "given":
        given = GivenScores(Path(str(config.score.given_scores)))
    else:
        check_signals(config)
    check_selection(config)
    record_path = store.root / "environment.json"
    if store.config_path.exists() and record_path.exists():
        before = read_run_config(store.config_path)
        refuse_changed(before, config)
        record = read_object(record_path)
        for key, (field, now) in inputs_of(config, recipe).items():
            if record.get(key) != now:
                raise UserError(
                    f"{field} has changed since the run was begun with it: put it back, or give "
                    "the new run another name (name=…)."
                )
        pinned = follow(store, config, screen, stop)
        _pool(config, pinned).check_shards(config.pool.allow_pipe)
        _check_against(_pool(config, pinned), config, given, screen)
        changed = environment.differences(record, environment.describe(config.seed))
        for difference in environment.version_differences(changed):
            screen.say(f"note: {difference}")
        note_continued(store, ranks, changed, differences(before, config))
        return pinned

    pinned = open_pool(config, screen, stop)
    pool = _pool(config, pinned)
    base = Base.of(pool, config)
    outlook(config, base.size, pool.rows, flops=1, parameters=0)
    _check_against(pool, config, given, screen)
    described = environment.describe(config.seed)
    write_json(record_path, described | {"pool": pinned} | fingerprints(config, recipe))
    write_text(store.config_path, to_yaml(config))
    return pinned


def check_signals(config: Config) -> None:
    """Check that the signals are known and get what they need.

    Raises:
        UserError: If not.
    """
    score, needs = config.score, set[Need]()
    for name in (score.signal, *score.also):
        asked_as = "score.signal" if name == score.signal else "score.also"
        of_signal = find_signal(name, asked_as).needs
        needs |= of_signal
        if "target" in of_signal and score.target is None:
            raise UserError(f"{asked_as}={name} needs a target set: score.target=FOLDER.")
        if "reference" in of_signal and asked_as == "score.signal" and score.reference is None:
            raise UserError(
                f"score.signal={name} compares with the model of the round before, which round 0 "
                "does not have: name a checkpoint (score.reference=…), or have it in score.also."
            )
    for field, need in (("target", "target"), ("reference", "reference")):
        if getattr(score, field) is not None and need not in needs:
            raise UserError(f"score.{field}={getattr(score, field)}: no signal needs it.")
    if score.target is not None:
        kind = open_target(score.target).kind
        if "target_captions" in needs and kind != "retrieval":
            raise UserError(
                f"score.target={score.target} is a {kind} set: signals of its captions need one of "
                "the kind retrieval."
            )


def check_selection(config: Config) -> None:
    """Check that what selecting is to look at will be there.

    Raises:
        UserError: If not.
    """
    select, score = config.select, config.score
    written = [score.signal, *score.also]
    for words in select.cuts:
        signal = Rule.of_words(words, "select.cuts").signal
        if signal not in written:
            raise UserError(
                f"select.cuts: {words!r} goes by {signal}, and scoring writes "
                f"{', '.join(written)}: put it into score.also."
            )
    for name in select.groupings:
        check_grouping(name)
    open_sets(select.without)
    if select.needs_embeddings and score.signal == "given":
        raise UserError(
            "select.clusters, duplicates=near and without_cosine need embeddings, and with "
            "score.signal=given no model makes any."
        )
    for round_ in range(config.rounds.count):
        asked = select.asks_for_embeddings(round_)
        if asked and "select" in stages_of(config, round_) and encoded_in(config, round_) is None:
            raise UserError(
                f"{asked} needs embeddings, and round {round_} makes none: with "
                f"select.keep_fraction={select.keep(round_):g} nothing is scored."
            )
    if select.clusters:
        require_faiss()


def _check_against(pool: Pool, config: Config, given: GivenScores | None, screen: Screen) -> None:
    """Check that the tables that name rows by their uid are of this pool."""
    if config.evaluate.truth:
        Truth(Path(config.evaluate.truth), pool)
    if given is not None and (missing := given.account(pool)):
        screen.say(missing)


def _pool(config: Config, pinned: dict[str, str]) -> Pool:
    return Pool(Path(pinned["index_dir"]), pinned["version"], config.pool.caption_key)
