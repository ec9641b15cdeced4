"""Whole runs on pools and scores at which arithmetic breaks: they end well, or say why not."""

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from selffilter.config import load_config
from selffilter.errors import UserError
from selffilter.pool import uids
from selffilter.pool.index import Pool, build_index
from selffilter.run import run
from selffilter.store import iterate_jsonl
from selffilter.team import Team
from selffilter.tracking.console import Screen

SHARDS, PER_SHARD, BATCH, ROUNDS = 3, 16, 8, 2
ROWS = SHARDS * PER_SHARD


@pytest.fixture
def write_pool(tmp_path, make_tar, picture):
    """Return what writes a pool: three shards of 16, unless said otherwise."""

    def write(
        caption=lambda row: f"caption {row}", image=picture, shards=SHARDS, per_shard=PER_SHARD
    ):
        for shard in range(shards):
            rows = range(shard * per_shard, (shard + 1) * per_shard)
            make_tar(
                tmp_path / "pool" / f"{shard:05d}.tar",
                [(f"{row:04d}", {"png": image(row), "txt": caption(row).encode()}) for row in rows],
            )

    return write


@pytest.fixture
def go(tmp_path, tiny_vit):
    """Return what runs the loop on that pool."""

    def begin(*words):
        (tmp_path / "tiny-numerics.json").write_text(json.dumps(tiny_vit))
        config = load_config(
            None,
            [
                "name=run", f"runs_dir={tmp_path / 'runs'}", f"pool.shards=[{tmp_path / 'pool'}]",
                f"pool.index_dir={tmp_path / 'index'}",
                f"model.name={tmp_path / 'tiny-numerics.json'}",
                f"rounds.samples_seen={8 * BATCH}", f"rounds.count={ROUNDS}",
                "rounds.bootstrap_fraction=0.5", f"train.global_batch_size={BATCH}",
                "train.warmup_steps=1", "train.log_every_steps=1", "score.batch_size=16",
                "score.bank_size=16", "select.probe_fraction=0.1", "select.keep_fraction=0.5",
                "select.diverse_fraction=0.2", "track.wandb=disabled", "hardware.workers=0",
                "hardware.accelerator=cpu", *words,
            ],
        )  # fmt: skip
        return run(config, Team(torch.device("cpu")), Screen(quiet=True))

    return begin


@pytest.fixture
def given_scores(tmp_path):
    """Return what writes a score for each row of the pool, and says where."""

    def write(scores_N, kind):
        pool = Pool(tmp_path / "index", build_index([str(tmp_path / "pool")], tmp_path / "index"))
        texts = uids.to_hex(pool.uids_of(np.arange(pool.rows)))
        path = tmp_path / "scores.parquet"
        pq.write_table(pa.table({"uid": texts, "score": pa.array(scores_N, kind)}), path)
        return ("score.signal=given", f"score.given_scores={path}")

    return write


def table_of(store, round_, stage):
    paths = sorted(store.stage(round_, stage).glob("*.parquet"))
    return pa.concat_tables([pq.read_table(path) for path in paths])


def losses(store):
    records = iterate_jsonl(store.root / "metrics.jsonl")
    return [record["loss"] for record in records if record["kind"] == "train"]


def ended_well(store):
    """Every step has a finite loss, every row is accounted for, and the weights are finite."""
    assert all(map(math.isfinite, losses(store)))
    for round_ in range(ROUNDS):
        account = store.summary(round_, "select")["account"]
        assert account["indexed"] == sum(n for what, n in account.items() if what != "indexed")
    weights = torch.load(store.state(ROUNDS - 1), weights_only=True)["model"]
    assert all(value.isfinite().all() for value in weights.values() if value.is_floating_point())
    return store


@pytest.mark.parametrize("kind", [pa.float32(), pa.float16()])
def test_given_scores_that_are_no_numbers_are_never_selected_and_counted(
    kind, write_pool, go, given_scores
):
    write_pool()
    scores = np.linspace(0, 1, ROWS).astype(np.float16)
    scores[::4] = np.nan
    store = ended_well(go(*given_scores(scores, kind), "select.diverse_fraction=0"))
    selected = table_of(store, 0, "select")
    assert len(selected) and np.isfinite(scores[selected["row"].to_numpy()]).all()
    account = store.summary(0, "select")["account"]
    probe = table_of(store, 0, "score")["probe"].to_numpy()
    assert account["base_not_scored"] == np.isnan(scores[~probe]).sum()


def test_infinite_scores_have_their_place_at_the_ends(write_pool, go, given_scores):
    write_pool()
    scores = np.linspace(0, 1, ROWS)
    scores[5], scores[6] = np.inf, -np.inf
    scores[7] = 1e300  # infinite in float32
    store = ended_well(
        go(*given_scores(scores, pa.float64()), "select.diverse_fraction=0",
           "select.probe_fraction=0")
    )  # fmt: skip
    rows = table_of(store, 0, "select")["row"].to_pylist()
    assert 6 not in rows
    summary = store.summary(0, "select")
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_scores_that_are_all_the_same_choose_as_many_rows_as_any(write_pool, go, given_scores):
    write_pool()
    store = ended_well(
        go(*given_scores(np.full(ROWS, 0.25), pa.float32()), "select.diverse_fraction=0")
    )
    summary = store.summary(0, "select")
    assert summary["selected"] == round(0.5 * summary["base"])
    rows = table_of(store, 0, "select")["row"].to_numpy()
    # Ties are not broken by the order of the pool: that would choose the first shards.
    assert rows.max() > ROWS * 0.75


def test_no_score_at_all_is_said_where_there_is_nothing_to_select(write_pool, go, given_scores):
    write_pool()
    with pytest.raises(UserError, match="0 rows to train on do not fill one batch"):
        go(*given_scores(np.full(ROWS, np.nan), pa.float32()), "select.diverse_fraction=0")


def test_no_score_at_all_leaves_the_diverse_rows(write_pool, go, given_scores):
    write_pool()
    store = ended_well(
        go(*given_scores(np.full(ROWS, np.nan), pa.float32()), "select.diverse_fraction=0.5")
    )
    summary = store.summary(0, "select")
    assert summary["confident"] == 0 and summary["selected"] == summary["diverse"] > 0


def test_a_confident_share_of_no_row_leaves_the_diverse_ones(write_pool, go):
    write_pool()
    store = ended_well(go("select.keep_fraction=0.001", "select.diverse_fraction=0.5"))
    for round_ in range(ROUNDS):
        summary = store.summary(round_, "select")
        assert summary["confident"] == 0
        assert summary["selected"] == summary["diverse"] > 0


def test_a_pool_smaller_than_a_batch_is_refused_before_any_step(write_pool, go, tmp_path):
    write_pool(shards=1, per_shard=BATCH - 2)
    with pytest.raises(UserError, match="batch"):
        go()
    assert not list((tmp_path / "runs").rglob("*.ckpt"))


def test_a_selection_smaller_than_a_batch_is_refused_before_any_step(write_pool, go, tmp_path):
    write_pool()
    with pytest.raises(UserError, match="batch"):
        go("select.keep_fraction=0.05", "select.diverse_fraction=0.05")
    assert not list((tmp_path / "runs").rglob("*.ckpt"))


@pytest.mark.parametrize("signal", ["neg_clip_loss", "cosine"])
def test_one_caption_everywhere_trains_and_scores(signal, write_pool, go):
    write_pool(caption=lambda row: "click to enlarge")
    store = ended_well(go(f"score.signal={signal}"))
    scores = table_of(store, 1, "score")[signal].to_numpy()
    assert np.isfinite(scores).all()


def test_one_picture_everywhere_trains_and_scores(write_pool, go, picture):
    write_pool(image=lambda row: picture(0), caption=lambda row: "the same")
    store = ended_well(go())
    scores = table_of(store, 1, "score")["neg_clip_loss"].to_numpy()
    assert np.isfinite(scores).all()
    assert np.ptp(scores) < 1e-3


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_steps_that_are_far_too_long_are_stopped_or_stay_finite(precision, write_pool, go):
    """A rate at which weights explode: steps are skipped and counted until the run says so."""
    write_pool()
    words = ("train.learning_rate=1e30", f"hardware.precision={precision}")
    with pytest.raises(UserError, match=r"skipped|not finite|NaN|finite"):
        go(*words, "train.max_skipped_steps=1")
