"""What the score stage can be asked for, in whole runs on a small pool."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from test_end_to_end import BATCH, config_of, go, home

from selffilter.config import load_config, read_run_config
from selffilter.errors import UserError
from selffilter.planning import round_steps
from selffilter.rundir.forking import fork
from selffilter.scoring.embeddings.find import open_embeddings
from selffilter.scoring.ready import score_embeddings
from selffilter.scoring.signals.cosine import Cosine
from selffilter.scoring.signals.facts import Facts
from selffilter.selecting.combine import quantiles
from selffilter.store import RunStore, read_json
from selffilter.tables import read_table
from selffilter.training.batch_plan import BatchPlan, exposures
from selffilter.training.selected import Selected

__all__ = ["home"]
OTHERS = ("cosine", "flipped_cosine", "learnability", "norm_sim_2", "norm_sim_inf",
          "variance_alignment_image", "variance_alignment_image_traindata",
          "variance_alignment_cross_traindata", "pair_probability")  # fmt: skip


@pytest.fixture(scope="module")
def target(home: Path) -> Path:
    """The evaluation set's drawings as a target set."""
    folder = home / "target"
    shutil.copytree(home / "eval", folder)
    (folder / "test").rename(folder / "train")
    return folder


def table(store: RunStore, round_: int) -> pa.Table:
    files = sorted(store.stage(round_, "score").glob("*.parquet"))
    return pa.concat_tables([read_table(path) for path in files])


def selection(store: RunStore, round_: int) -> pa.Table:
    files = sorted(store.stage(round_, "select").glob("0*.parquet"))
    return pa.concat_tables([read_table(path) for path in files])


def column(store: RunStore, round_: int, name: str) -> np.ndarray:
    return table(store, round_)[name].to_numpy()


@pytest.fixture(scope="module")
def many(home: Path, target: Path, tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """A run that writes every signal, and keeps its embeddings."""
    return go(
        config_of(
            home, tmp_path_factory.mktemp("runs"), "many", f"score.also=[{','.join(OTHERS)}]",
            f"score.target={target}", "score.keep_embeddings=true",
        )
    )  # fmt: skip


def test_further_signals_stand_beside_the_one_that_selects_and_change_nothing(
    many: RunStore, home: Path, tmp_path: Path
) -> None:
    plain = go(config_of(home, tmp_path, "plain"))
    for round_ in (0, 1):
        found = table(many, round_)
        usable = found["failure"].to_numpy() == 0
        for name in OTHERS:
            if name == "learnability" and not round_:
                assert name not in found.column_names  # there is no model before the first
                continue
            assert np.isfinite(found[name].to_numpy()[usable]).all()
            assert np.isnan(found[name].to_numpy()[~usable]).all()
        np.testing.assert_array_equal(
            found["neg_clip_loss"].to_numpy(), column(plain, round_, "neg_clip_loss")
        )
    ours, theirs = (s.stage(1, "select") / "subset.npy" for s in (many, plain))
    assert ours.read_bytes() == theirs.read_bytes()


def test_the_embeddings_that_are_kept_give_the_scores_again(many: RunStore) -> None:
    embeddings = open_embeddings(many.stage(1, "score") / "embeddings")
    found = table(many, 1)
    rows = embeddings.pool_rows()
    usable = found["failure"].to_numpy()[rows] == 0
    scores = score_embeddings(embeddings, {"cosine": Cosine()}, Facts(0.07), usable)["cosine"]
    np.testing.assert_allclose(scores, found["cosine"].to_numpy()[rows], atol=1e-3)


def test_a_fork_takes_embeddings_along_and_may_have_another_target(
    many: RunStore, home: Path, target: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(target, other)
    (other / "classnames.txt").write_text((other / "classnames.txt").read_text() + "\none more")
    more = (f"score.also=[{','.join(OTHERS)}]", "score.keep_embeddings=true")
    config = config_of(home, many.root.parent, "forked", *more, f"score.target={other}")
    store = fork(many, config, from_round=1)
    assert (store.stage(0, "score") / "embeddings" / "embeddings.json").exists()
    go(read_run_config(store.config_path))
    records = [read_json(s.root / "environment.json") for s in (many, store)]
    assert len({record["target_fingerprint"] for record in records}) == 2


def test_a_target_that_changed_under_a_run_is_refused(
    many: RunStore, home: Path, target: Path
) -> None:
    names = target / "classnames.txt"
    before = names.read_text()
    more = (f"score.also=[{','.join(OTHERS)}]", "score.keep_embeddings=true")
    config = config_of(home, many.root.parent, "many", *more, f"score.target={target}")
    try:
        names.write_text(before + "\none more")
        with pytest.raises(UserError, match=r"score\.target=.*target has changed since"):
            go(config)
    finally:
        names.write_text(before)
    go(config)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["score.signal=norm_sim_2"], "score.signal=norm_sim_2 needs a target set"),
        (["score.also=[norm_sim_2]"], "score.also=norm_sim_2 needs a target set"),
        (["score.also=[cosin]"], "score.also='cosin' is not one of .*Did you mean 'cosine'"),
        (["score.also=[cosine,cosine]"], "names a signal twice"),
        (["score.signal=learnability"], "which round 0 does not have"),
        (["score.target=TARGET"], "score.target=.*: no signal needs it"),
        (["score.target=TARGET", "score.also=[variance_alignment_text]"], "is a classification se"),
        (["score.target=EVAL", "score.also=[norm_sim_2]"], "train/nshards.txt"),
    ],
    ids=str,
)
def test_signals_that_cannot_be_had_are_refused_before_anything_is_made(
    more: list[str], said: str, home: Path, target: Path, tmp_path: Path
) -> None:
    words = [w.replace("TARGET", str(target)).replace("EVAL", str(home / "eval")) for w in more]
    with pytest.raises(UserError, match=said):
        go(config_of(home, tmp_path, "refused", *words))
    assert not (tmp_path / "refused" / "config.yaml").exists()


def test_a_checkpoint_may_be_the_reference_from_the_first_round_on(
    many: RunStore, home: Path, tmp_path: Path
) -> None:
    words = ("score.signal=learnability", f"score.reference={many.root}")
    store = go(config_of(home, tmp_path, "reference", *words))
    found = table(store, 0)
    usable = found["failure"].to_numpy() == 0
    assert np.isfinite(found["learnability"].to_numpy()[usable]).all()
    (home / "small.json").write_text(
        (home / "test-vit.json").read_text().replace('"context_length": 12', '"context_length": 9')
    )
    with pytest.raises(UserError, match=r"score\.reference=.* wants context_length 12"):
        go(config_of(home, tmp_path, "unfit", *words, f"model.name={home / 'small.json'}"))


# --- which rows are scored afresh -----------------------------------------------------------------


def test_rows_that_a_round_trained_on_keep_their_score(home: Path, tmp_path: Path) -> None:
    store = go(config_of(home, tmp_path, "unconsumed", "score.rescore=unconsumed"))
    first, second = (table(store, round_) for round_ in (0, 1))
    usable = first["failure"].to_numpy() == 0
    assert (first["scored_round"].to_numpy()[usable] == 0).all()
    config = load_config(store.config_path)
    plan = BatchPlan(Selected(store.stage(0, "select")), BATCH, config.seed, 1)
    consumed, _ = exposures(plan, round_steps(config)[1].steps)
    assert 0 < len(consumed) < usable.sum()
    kept = second["scored_round"].to_numpy() == 0
    assert set(np.flatnonzero(kept & usable)) == set(consumed[usable[consumed]])
    for name in ("neg_clip_loss", "failure"):
        np.testing.assert_array_equal(second[name].to_numpy()[kept], first[name].to_numpy()[kept])
    assert not np.isin(
        second["neg_clip_loss"].to_numpy()[usable & ~kept],
        first["neg_clip_loss"].to_numpy()[usable & ~kept],
    ).all()
    account = store.summary(1, "select")["account"]
    assert account["base_scored"] + account["probe"] == usable.sum()


def test_a_part_of_the_pool_is_scored_and_the_rest_later(home: Path, tmp_path: Path) -> None:
    store = go(config_of(home, tmp_path, "part", "score.fraction=0.5"))
    rounds = [table(store, round_) for round_ in (0, 1, 2)]
    probe = rounds[0]["probe"].to_numpy()
    scored = [r["scored_round"].to_numpy() for r in rounds]
    assert (scored[0][probe] == 0).all() and (scored[2][probe] == 2).all()
    shares = [(s >= 0).mean() for s in scored]
    assert 0.4 < shares[0] < 0.7 < shares[1] < shares[2]
    for found, of_round in zip(rounds, scored, strict=True):
        assert np.isnan(found["neg_clip_loss"].to_numpy()[of_round < 0]).all()
    summaries = [store.summary(round_, "select") for round_ in (0, 1, 2)]
    assert summaries[0]["scored_base"] < summaries[1]["scored_base"] < summaries[0]["base"]
    assert summaries[0]["account"]["base_not_scored"] > 0
    # What fails is not known before it is looked at: it is never selected for its score.
    assert summaries[0]["confident"] == round(0.4 * summaries[0]["scored_base"])


def places_averaged(scores: list[np.ndarray], half_life: float) -> np.ndarray:
    """Average over rounds: a place counts half as much as one a half-life later."""
    age = np.arange(len(scores))[::-1]
    return np.average([quantiles(s) for s in scores], axis=0, weights=0.5 ** (age / half_life))


def test_with_a_memory_rows_are_selected_by_their_places_averaged_over_rounds(
    home: Path, tmp_path: Path
) -> None:
    store = go(config_of(home, tmp_path, "memory", "select.memory_half_life=1.5"))
    scores = [column(store, round_, "neg_clip_loss") for round_ in (0, 1)]
    expected = places_averaged(scores, 1.5)
    merit = np.load(store.stage(1, "select") / "merit.npy")
    np.testing.assert_allclose(merit, expected, atol=1e-6)
    found = table(store, 1)
    base = (found["failure"].to_numpy() == 0) & ~found["probe"].to_numpy()
    best = np.sort(np.flatnonzero(base)[np.argsort(-expected[base])][: round(0.4 * base.sum())])
    selected = selection(store, 1)
    chosen = selected["row"].to_numpy()[np.asarray(selected["share"]) == "confident"]
    np.testing.assert_array_equal(chosen, best)
    # A fork of a run without a memory works it out from the scores.
    plain = go(config_of(home, tmp_path, "plain"))
    forked = config_of(home, tmp_path, "later", "select.memory_half_life=1.5")
    later = go(read_run_config(fork(plain, forked, from_round=1).config_path))
    scores = [column(plain, 0, "neg_clip_loss"), column(later, 1, "neg_clip_loss")]
    merit = np.load(later.stage(1, "select") / "merit.npy")
    np.testing.assert_allclose(merit, places_averaged(scores, 1.5), atol=1e-6)


def test_without_any_of_these_rows_are_ranked_by_the_latest_score(
    many: RunStore,
) -> None:
    assert not list(many.root.rglob("merit.npy"))
