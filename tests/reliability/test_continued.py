"""A run goes on under other circumstances: other ranks, another config, other libraries."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from test_end_to_end import MODEL, config_of, go, home, words

from selffilter import environment
from selffilter.config import Config
from selffilter.errors import UserError
from selffilter.interrupt import Stopped
from selffilter.pool.reading import PoolDataset
from selffilter.stages.context import RunContext
from selffilter.store import RunStore, iterate_jsonl, read_json
from selffilter.tracking.console import Screen

__all__ = ["home"]


def recorded(patch: pytest.MonkeyPatch, seen: Path, stop_at: int) -> None:
    """Have every rank of this process note what it reads in each step, and rank 0 ask to stop."""
    read, log = PoolDataset.__getitem__, RunContext.log

    def note(self, request):
        if request.step is not None:
            with seen.open("a") as file:
                file.write(json.dumps([request.step, request.rows_B.tolist()]) + "\n")
        return read(self, request)

    def stop(context, kind, round_, stage, step, values):
        log(context, kind, round_, stage, step, values)
        if kind == "train" and step == stop_at:
            os.kill(os.getpid(), signal.SIGUSR1)

    patch.setattr(PoolDataset, "__getitem__", note)
    patch.setattr(RunContext, "log", stop)


def train_alone(config: Config, seen: Path, stop_at: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        recorded(patch, seen, stop_at)
        go(config, only="train")


TWO_RANKS = """
import sys
from pathlib import Path
import pytest
from selffilter.config import load_config
from selffilter.commands.in_team import with_team
from selffilter.run import run
from selffilter.tracking.console import Screen
from test_continued import recorded

seen, stop_at, *words = sys.argv[1:]
sys.argv = ["selffilter", "run"]
recorded(pytest.MonkeyPatch(), Path(seen), int(stop_at))
config = load_config(None, words)
with_team("cpu", lambda team: run(config, team, Screen(quiet=True), "train"))
"""


def train_on_two_ranks(words: list[str], seen: Path, stop_at: int) -> str:
    script = seen.with_name("two_ranks.py")
    script.write_text(TWO_RANKS)
    here = Path(__file__).resolve().parent
    paths = [str(here.parents[1]), str(here.parent), str(here), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {
        "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(paths)
    }  # fmt: skip
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
            str(script), str(seen), str(stop_at), *words,
        ],
        env=env, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr  # torchrun makes 1 of every code but 0
    return done.stderr


def batches(seen: Path) -> dict[int, list[int]]:
    """The rows of each global batch, ascending."""
    found: dict[int, list[int]] = defaultdict(list)
    for line in seen.read_text().splitlines():
        step, rows = json.loads(line)
        found[step] += rows
    return {step: sorted(rows) for step, rows in sorted(found.items())}


def losses(store: RunStore) -> list[float]:
    records = iterate_jsonl(store.round(0) / "metrics.jsonl")
    return [r["loss"] for r in records if r["kind"] == "train"]


def test_inside_a_round_one_two_and_one_rank_see_the_same_global_batches(
    home: Path, tmp_path: Path
) -> None:
    vision = {**MODEL["vision_cfg"], "patch_dropout": 0.0}  # it would draw other patches
    (tmp_path / "model.json").write_text(json.dumps(MODEL | {"vision_cfg": vision}))
    more = (f"model.name={tmp_path / 'model.json'}", "rounds.bootstrap_fraction=0.75")
    alone, changing = tmp_path / "alone.jsonl", tmp_path / "changing.jsonl"
    train_alone(config_of(home, tmp_path, "alone", *more), alone, stop_at=-1)
    config = config_of(home, tmp_path, "changing", *more)
    with pytest.raises(Stopped):
        train_alone(config, changing, stop_at=3)
    said = train_on_two_ranks(words(home, tmp_path, "changing", *more), changing, stop_at=6)
    assert "stopped and saved" in said, said
    train_alone(config, changing, stop_at=-1)
    assert len(batches(alone)) == 9
    # Read ahead of a stop is nothing here: no workers. So no step is there twice.
    assert batches(changing) == batches(alone)
    expected, found = (losses(RunStore(tmp_path / name)) for name in ("alone", "changing"))
    assert found == pytest.approx(expected, rel=1e-4)
    noted = read_json(tmp_path / "changing" / "environment.json")["continued"]
    assert [entry["ranks"] for entry in noted] == [2, 1]


def test_another_number_of_workers_gives_the_same_run(home: Path, tmp_path: Path) -> None:
    go(config_of(home, tmp_path, "none"), only="train")
    go(config_of(home, tmp_path, "some", "hardware.workers=2"), only="train")
    stores = [RunStore(tmp_path / name) for name in ("none", "some")]
    assert losses(stores[0]) == losses(stores[1])
    weights = [store.model(0).read_bytes() for store in stores]
    assert weights[0] == weights[1]


def test_what_else_a_run_goes_on_with_is_said_and_noted_each_time(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(home, tmp_path, "run")
    store = go(config, only="train")
    path = store.root / "environment.json"
    assert "continued" not in read_json(path)
    said: list[str] = []
    monkeypatch.setattr(Screen, "say", lambda self, text: said.append(text))
    monkeypatch.setattr(environment, "_version", lambda name: "99.0")
    go(config_of(home, tmp_path, "run", "hardware.workers=1"), only="score")
    began = read_json(path)["packages"]["torch"]
    assert f"note: this run was begun with torch {began} and goes on with 99.0" in said
    monkeypatch.undo()
    go(config, only="select")
    first, second = read_json(path)["continued"]
    assert first["versions"]["torch"] == [began, "99.0"]
    assert first["config"] == {"hardware.workers": [0, 1]}
    assert (second["versions"], second["config"]) == ({}, {})
    assert first["at"] <= second["at"]
    assert read_json(path)["packages"]["torch"] == began


def test_a_config_that_may_not_change_is_refused_with_all_fields_and_what_to_do(
    home: Path, tmp_path: Path
) -> None:
    store = go(config_of(home, tmp_path, "run"), only="train")
    before = {p: p.read_bytes() for p in store.root.rglob("*") if p.is_file()}
    other = ("seed=3", "train.learning_rate=0.1", "hardware.workers=1")
    with pytest.raises(UserError) as caught:
        go(config_of(home, tmp_path, "run", *other), only="score")
    assert str(caught.value) == (
        "run 'run' was begun with another config:\n"
        "  seed: 0 -> 3\n"
        "  train.learning_rate: 0.0005 -> 0.1\n"
        "Give the new run another name (name=…), or branch off with `selffilter fork`."
    )
    assert before == {p: p.read_bytes() for p in store.root.rglob("*") if p.is_file()}
