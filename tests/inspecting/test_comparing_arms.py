"""Which runs are taken together, from nothing but their configs."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from selffilter.comparing.arms import (
    arm_differences,
    arms_of,
    same_but_for_seed,
    same_start,
)
from selffilter.comparing.sides import Side
from selffilter.config import load_config
from selffilter.pool.multiset import subset_of

NOTHING = subset_of(np.empty((0, 2), np.uint64))


def side(letter, name, *words, version="v", shards="[/p]"):
    config = load_config(None, [f"name={name}", f"pool.shards={shards}", *words])
    run = SimpleNamespace(config=config, rows_version=version)
    return Side(letter, Path("runs") / name, run, 0, NOTHING)


def file(letter):
    return Side(letter, Path(f"{letter}.npy"), None, None, NOTHING)


def letters(arms):
    return [arm.letters for arm in arms]


def test_runs_that_differ_in_seed_and_name_are_an_arm_called_by_what_their_names_share():
    arms = arms_of(
        [side("A", "loop-seed2", "seed=2"), side("B", "loop-seed0", "seed=0"), side("C", "x1")]
    )
    # C has seed 0 and no other setting: it is B once more, no further seed.
    assert letters(arms) == ["B A", "C"]
    assert arms[0].seeds == {0: "B", 2: "A"}
    assert [arm.name for arm in arms] == ["loop", "x1"]
    assert arm_differences(arms) == {}


@pytest.mark.parametrize(
    "word",
    ["select.keep_fraction=0.1", "guard.action=widen", "hardware.precision=bf16-mixed",
     "rounds.samples_seen=77", "pool.subset=/s.npy", "train.learning_rate=0.1"],
)  # fmt: skip
def test_a_field_that_decides_what_a_run_is_makes_another_arm_and_is_named(word):
    arms = arms_of([side("A", "a", "seed=0"), side("B", "b", "seed=1", word)])
    assert letters(arms) == ["A", "B"]
    assert list(arm_differences(arms)) == [word.partition("=")[0]]


@pytest.mark.parametrize(
    "word",
    ["hardware.workers=7", "track.wandb_group=g", "runs_dir=/elsewhere", "pool.cache_gb=1",
     "evaluate.truth=/t.parquet", "train.log_every_steps=3"],
)  # fmt: skip
def test_what_a_run_may_go_on_with_makes_none(word):
    assert letters(arms_of([side("A", "a", "seed=0"), side("B", "b", "seed=1", word)])) == ["A B"]


def test_one_pool_is_the_same_wherever_it_lies_and_another_is_another():
    moved = [side("A", "a", "seed=0"), side("B", "b", "seed=1", shards="[/moved]")]
    assert letters(arms_of(moved)) == ["A B"]
    assert (arms_of(moved)[0].by_seed, arms_of(moved)[0].elsewhere) == ((), ("pool.shards",))
    others = [side("A", "a", "seed=0"), side("B", "b", "seed=1", shards="[/o]", version="w")]
    arms = arms_of(others)
    assert letters(arms) == ["A", "B"]
    assert arm_differences(arms) == {"pool.shards": [["/p"], ["/o"]]}


def test_pools_and_files_of_a_seed_belong_to_it():
    sides = [
        side(letter, f"oracle{k}", f"seed={k}", f"pool.subset=/in/seed{k}/clean.npy",
             version=f"v{k}", shards=f"[/pools/noise50-seed{k}]")
        for letter, k in zip("ABC", (5, 6, 7), strict=True)
    ]  # fmt: skip
    arms = arms_of(sides)
    assert letters(arms) == ["A B C"]
    assert (arms[0].by_seed, arms[0].elsewhere) == (("pool.shards", "pool.subset"), ())


def test_first_weights_and_order_are_shared_unless_model_or_pool_differ():
    assert same_start(["score.rescore", "select.keep_fraction", "modelled", "pooled.x"])
    assert not same_start(["score.rescore", "model.name"])
    assert not same_start(["pool.shards"])


def test_subsets_stand_by_themselves_and_names_are_told_apart():
    arms = arms_of([file("A"), side("B", "x"), side("C", "x", "seed=1", "score.rescore=once")])
    assert [(arm.letters, arm.is_runs) for arm in arms] == [("A", False), ("B", True), ("C", True)]
    assert [arm.name for arm in arms] == ["A.npy", "x (B)", "x (C)"]
    assert arm_differences(arms) == {"score.rescore": ["each_round", "once"]}


@pytest.mark.parametrize(
    ("text", "other"),
    [("noise50-seed3", "noise50-seed4"), ("/run3/seed3.npy", "/run3/seed4.npy"), ("/x", "/x"),
     ("/s3/v1.3/00003.tar", "/s4/v1.3/00003.tar"), ("seed-03", "seed-04"), ("x_s_3", "x_s_4"),
     ("noise50seed3", "noise50seed4"), ("Seed3/s3.npy", "Seed4/s4.npy"), ("seed03", "seed4")],
)  # fmt: skip
def test_paths_are_of_one_kind_where_each_has_its_seed(text, other):
    assert same_but_for_seed(text, 3, other, 4)


@pytest.mark.parametrize(
    ("text", "other"),
    [("noise50-seed3", "noise51-seed4"), ("v1.3", "v1.4"), ("a33", "a44"), ("seed4", "seed3"),
     ("/x", "/y"), ("/in/seed3/a", "/in/seed4/b"), ("seed3", "seed4/x"), ("0.3", "0.4"),
     ("/in/3", "/in/4"), ("scores.3.parquet", "scores.4.parquet"), ("classes3", "classes4"),
     ("noise3-seed3", "noise4-seed4"), ("seed3/00003.tar", "seed4/00004.tar"),
     ("seed3.5", "seed4.5")],
)  # fmt: skip
def test_other_paths_are_not(text, other):
    assert not same_but_for_seed(text, 3, other, 4)


@pytest.mark.parametrize(
    ("names", "called"),
    [(("loop-3", "loop-4"), "loop"), (("noise50-seed3-b", "noise50-seed4-b"), "noise50-seed-b"),
     (("run3_s3", "run3_s4"), "run3"), (("classes3", "classes4"), "classes"), (("x", "y"), "x")],
)  # fmt: skip
def test_an_arm_is_called_by_what_its_names_have_in_common(names, called):
    sides = [side("AB"[k], name, f"seed={3 + k}") for k, name in enumerate(names)]
    assert [arm.name for arm in arms_of(sides)] == [called]
