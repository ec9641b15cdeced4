"""An experiment file: what it may say, and what is said of a mistake in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from selffilter.errors import UserError
from selffilter.experiments.schema import read_experiment

POOL = {"name": "p", "demo": "openclipart", "noise": {"rate": 0.5}}


def write(path: Path, **fields: object) -> Path:
    values = {"name": "x", "pools": [POOL]} | fields
    path.write_text(yaml.safe_dump({k: v for k, v in values.items() if v is not None}))
    return path


def test_what_is_not_said_has_a_default(tmp_path: Path) -> None:
    made = read_experiment(write(tmp_path / "x.yaml"))
    assert (made.seeds, made.methods, made.config) == ((0,), ("loop", "uniform", "oracle"), "demo")
    noise = made.pools[0].noise
    assert noise is not None
    assert (noise.kind, noise.rate) == ("mismatched", 0.5)
    assert made.root == Path("runs/experiments/x")


def test_methods_come_before_variants_in_the_tables(tmp_path: Path) -> None:
    variants = {"cosine": ["score.signal=cosine"], "long": {"changes": {"rounds": {"count": 9}}}}
    made = read_experiment(
        write(tmp_path / "x.yaml", methods=["uniform", "loop"], variants=variants)
    )
    assert made.asked_methods() == ["uniform", "loop", "cosine", "long"]
    assert made.known_methods()["long"].changes == {"rounds.count": 9}


def test_a_shipped_experiment_is_found_by_its_name() -> None:
    assert read_experiment(Path("demo")).name == "demo"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"sees": [0]}, "there is no field 'sees'. Did you mean 'seeds'?"),
        (
            {"pools": [POOL | {"noise": {"rat": 0.5}}]},
            r"no field 'pools\[0\].noise.rat'. Did you mean 'pools\[0\].noise.rate'",
        ),
        ({"pools": None}, "pools is not set"),
        ({"pools": []}, "pools is empty"),
        ({"pools": {"p": 1}}, "pools is a list"),
        ({"pools": ["p"]}, r"pools\[0\] is a group of fields"),
        ({"pools": [POOL, POOL]}, "pools: 'p' stands twice"),
        ({"pools": [{"name": "p"}]}, "give either shards or demo"),
        ({"pools": [POOL | {"shards": ["x"]}]}, "give either shards or demo"),
        ({"pools": [POOL | {"demo": "emoji"}]}, "demo='emoji' is not one of openclipart"),
        ({"pools": [POOL | {"noise": {"rate": 1.5}}]}, "pool p: noise: .*1.5 is not in"),
        ({"pools": [POOL | {"noise": {"kind": "truncate"}}]}, "Did you mean 'truncated'"),
        ({"pools": [POOL | {"truth": "t.parquet"}]}, "leave truth out"),
        ({"pools": [POOL | {"name": "a/b"}]}, "'a/b' cannot be the name of a folder"),
        ({"seeds": [0, 0]}, "seeds: 0 stands twice"),
        ({"seeds": ["a"]}, r"seeds\[0\] is a whole number, not 'a'"),
        ({"seeds": [True]}, r"seeds\[0\] is a whole number"),
        ({"methods": ["lop"]}, "there is no control 'lop'.*Did you mean 'loop'"),
        ({"methods": []}, "methods is empty"),
        ({"variants": {"loop": ["seed=1"]}}, "'loop' is a control's name"),
        ({"variants": {"v": ["score.signl=x"]}}, "Did you mean 'score.signal'"),
        ({"variants": {"v": {"change": {}}}}, "no field 'change'. Did you mean 'changes'"),
        ({"variants": {"v": {"start": "somewhere"}}}, "start='somewhere' is not one of"),
        ({"variants": {"v": 3}}, "give changes, or a list"),
        ({"variants": {"v": {"uses": "loop"}}}, "uses is a list of methods, not 'loop'"),
        ({"variants": {"v": ["seed=5"]}}, "method 'v': seed is set by the experiment"),
        ({"variants": {"v": {"changes": {"pool": {"shards": ["x"]}}}}}, "pool.shards is set by"),
        ({"overrides": ["seed=5"]}, "overrides: seed is set by the experiment"),
        ({"overrides": ["evaluate.truth=x"]}, "overrides: evaluate.truth is set by"),
        ({"pools": [POOL | {"label_key": "label"}]}, "are for shards; demo has its own"),
        ({"keep": "some"}, "keep='some' is not one of all, results"),
        ({"bootstrap_resamples": 10}, "needs at least 100"),
        ({"config": "dem"}, "ships no config 'dem'"),
    ],
)
def test_a_mistake_is_named(fields: dict[str, object], says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says):
        read_experiment(write(tmp_path / "x.yaml", **fields))
