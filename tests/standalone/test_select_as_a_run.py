"""`selffilter select` with a config, and `selffilter.select` in a notebook."""

import json

import numpy as np
import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_end_to_end import home, read_stage, whole

import selffilter
from selffilter.errors import UserError
from selffilter.pool.subset import read_subset_file
from selffilter.store import RunStore

__all__ = ["home", "whole"]

SCORES = np.random.default_rng(3).normal(size=50).astype(np.float32)


def frame(**more):
    return {"uid": [f"{n:032x}" for n in range(50)], "cosine": SCORES, **more}


def test_the_config_of_a_run_gives_the_selection_of_the_run(
    call, whole: RunStore, tmp_path
) -> None:
    for round_ in (0, 2):
        words = (whole.stage(round_, "score"), whole.config_path, "again", "--round", round_)
        code, said, error = call("select", *words, "--by", "neg_clip_loss")
        assert code == 0, error
        assert "selected" in said
        theirs, ours = read_stage(whole.stage(round_, "select")), read_stage(tmp_path / "again")
        assert ours.equals(theirs)
        subset = (tmp_path / "again" / "subset.npy").read_bytes()
        assert subset == (whole.stage(round_, "select") / "subset.npy").read_bytes()


def test_a_subset_file_has_its_record_beside_it(call, whole: RunStore, tmp_path) -> None:
    words = ("--set", "select.keep_fraction=0.25", "--set", "select.diverse_fraction=0")
    code, said, error = call("select", whole.stage(1, "score"), "out.npy", *words)
    assert code == 0, error
    record = json.loads((tmp_path / "out.npy.json").read_text())
    assert record["select"]["keep_fraction"] == [0.25]
    base = record["counts"]["scored_base"]
    assert len(read_subset_file(tmp_path / "out.npy")) == round(0.25 * base)
    assert f"{base:,}  of them with a neg_clip_loss" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["out.npy", "--set", "select.weights=samples"], "needs --samples"),
        (["out.npy", "--set", "select.clusters=3"], "needs the embeddings or images of a run"),
        (["out.npy", "--set", "select.balance=source", "--set", "select.group_floor=1"],
         "do not tell the grouping 'source'"),
        (["out.npy", "--set", "select.keep=0.4"], "there is no field 'select.keep'"),
        (["out.npy", "--set", "seed=1", "--keep", "cosine:0.3"], "do not go with a config"),
        (["out.npy", "--by", "cosine", "--keep", "neg_clip_loss:0.3"], "go with a config"),
        (["no.yaml", "out.npy"], "there is no config file no.yaml"),
        (["out.npy", "--set", "seed=1", "--by", "cosine"], "there is no column 'cosine'"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said(call, whole: RunStore, words, said) -> None:
    code, _, error = call("select", whole.stage(1, "score"), *words)
    assert code == 2 and said in error, error


@pytest.mark.parametrize("make", [pandas.DataFrame, polars.DataFrame, pa.table])
def test_a_frame_of_any_kind_gives_the_same_table(make) -> None:
    chosen = selffilter.select(make(frame()), keep_fraction=0.2, diverse_fraction=0.1)
    best = np.argsort(-SCORES)[:10]
    confident = chosen.filter(pa.compute.equal(chosen["share"], "confident"))
    assert sorted(confident["row"].to_pylist()) == sorted(best.tolist())
    assert confident["uid"].to_pylist() == [f"{n:032x}" for n in sorted(best)]
    assert [SCORES[r] for r in confident["row"].to_pylist()] == confident["score"].to_pylist()
    assert polars.from_arrow(chosen).height == len(chosen.to_pandas()) == chosen.num_rows


def test_columns_of_a_frame_can_be_cut_by_and_balanced(tmp_path) -> None:
    language = np.where(np.arange(50) < 40, "en", "de")
    other = -SCORES
    chosen = selffilter.select(
        pandas.DataFrame(frame(other=other, language=language)), signal="cosine",
        keep_fraction=0.4, diverse_fraction=0, balance="language", group_floor=1.0,
        cuts=["keep other:0.8"],
    )  # fmt: skip
    rows = chosen["row"].to_numpy()
    assert not set(rows) & set(np.argsort(SCORES)[-10:])
    assert len(rows) == 20
    eligible = np.setdiff1d(np.arange(50), np.argsort(SCORES)[-10:])
    german = (eligible >= 40).sum()
    assert (rows >= 40).sum() >= int(20 * german / 40)


def test_a_folder_of_scores_is_read_too(whole: RunStore) -> None:
    chosen = selffilter.select(whole.stage(1, "score"), keep_fraction=0.4, diverse_fraction=0.2,
                               round_=1)  # fmt: skip
    theirs = pq.read_table(
        [str(p) for p in sorted(whole.stage(1, "select").glob("*.parquet"))], columns=["row"]
    )
    assert chosen["row"].to_pylist() == theirs["row"].to_pylist()


@pytest.mark.parametrize(
    ("scores", "settings", "said"),
    [
        (7, {}, "scores is a int"),
        ({"cosine": SCORES}, {}, "the frame has no column uid"),
        (frame(other=SCORES), {}, "there are cosine, other: name one"),
        (frame(), {"keep": 0.3}, "there is no field 'select.keep'"),
        (frame(), {"keep_fraction": 3}, "select.keep_fraction=3"),
        (frame(), {"cuts": ["keep siglip:0.3"]}, "siglip"),
        (frame(uid=["x"] * 50), {}, "32 hex digits"),
        (frame(), {"diverse_by": "language"}, "no column 'language' to group by"),
    ],
)
def test_a_wrong_frame_or_setting_is_named(scores, settings, said) -> None:
    table = pa.table(scores) if isinstance(scores, dict) else scores
    with pytest.raises(UserError) as refused:
        selffilter.select(table, **settings)
    assert said in str(refused.value)
