"""A whole experiment on a small real pool: what it leaves, and that going on changes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from selffilter.config import load_config, read_run_config
from selffilter.errors import UserError
from selffilter.experiments.command import print_grid
from selffilter.experiments.grid import Cell, expand
from selffilter.experiments.planned import Grid
from selffilter.experiments.report import write_report
from selffilter.experiments.runner import Outcome, Runner
from selffilter.experiments.schema import read_experiment
from selffilter.interrupt import StopRequest
from selffilter.pool.subset import read_subset
from selffilter.run import run as run_loop
from selffilter.stages import train as train_stage
from selffilter.store import RunStore, read_json
from selffilter.team import Team
from selffilter.tracking.console import Screen

ALL = [
    "loop", "uniform", "uniform_equal_compute", "oracle", "oracle_after_bootstrap", "one_shot",
    "random_subset", "fixed_set", "mix", "cross_fit",
]  # fmt: skip
"""Left out are those that change no more than a field of selection: see test_end_to_end.py."""
Write = Callable[..., Path]


class Ended:
    def __init__(self, code: int) -> None:
        self._code = code

    def poll(self) -> int:
        return self._code

    def ask_to_stop(self) -> None: ...

    def kill(self) -> None: ...


class Killed(Exception):
    pass


class InThisProcess:
    """Runs at once, where it stands: starting processes would take longer than the runs."""

    def __init__(self) -> None:
        self.started: list[str] = []

    def start(self, words: list[str], log: Path) -> Ended:
        self.started.append(Path(words[1]).stem)
        config = load_config(Path(words[1]))
        only = words[3] if "--only" in words else None
        try:
            run_loop(config, Team(torch.device("cpu")), Screen(quiet=True), only)
        except Killed:
            return Ended(137)
        return Ended(0)


def open_grid(path: Path, only: tuple[str, ...] = ()) -> Grid:
    experiment = read_experiment(path)
    return Grid(experiment, expand(experiment, only), Screen(quiet=True), StopRequest())


def go(path: Path, only: tuple[str, ...] = ()) -> tuple[Grid, Outcome, list[str]]:
    grid, launcher = open_grid(path, only), InThisProcess()
    screen, stop = Screen(quiet=True), StopRequest()
    outcome = Runner(grid, grid.check(), launcher, 1, screen, stop).run()
    return grid, outcome, launcher.started


def store_of(grid: Grid, method: str, seed: int = 0) -> RunStore:
    return grid.store(Cell("half", method, seed))


@pytest.fixture(scope="module")
def whole(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grid]:
    """The controls, one seed, from beginning to end."""
    out = tmp_path_factory.mktemp("whole")
    path = out / "experiment.yaml"
    path.write_text(
        f"""
name: whole
config: {place}/base.yaml
out: {out}
methods: [{", ".join(ALL)}]
primary: mean_per_class_recall
pools:
  - name: half
    shards: [{place}/shards]
    noise: {{kind: mismatched, rate: 0.5}}
    zero_shot: [{place}/eval]
"""
    )
    grid, outcome, _ = go(path)
    assert not outcome.failed, outcome.failed
    assert len(outcome.done) == len(ALL) + 2  # cross_fit's halves
    yield grid


def compute(grid: Grid, method: str) -> dict[str, Any]:
    return read_json(store_of(grid, method).final / "compute.json")


def test_each_run_is_grouped_by_pool_and_called_by_its_method(whole: Grid) -> None:
    for method in ("loop", "uniform"):
        track = read_run_config(store_of(whole, method).config_path).track
        assert (track.wandb_group, track.wandb_job_type) == ("whole/half", method)


def test_the_oracle_has_seen_clean_rows_alone_from_the_first_step(whole: Grid) -> None:
    assert compute(whole, "oracle")["clean_share"] == 1.0
    assert 0.3 < compute(whole, "uniform")["clean_share"] < 0.7
    after = compute(whole, "oracle_after_bootstrap")["clean_share"]
    assert compute(whole, "uniform")["clean_share"] < after < 1.0


def test_all_see_as_many_samples_but_for_the_one_of_equal_compute(whole: Grid) -> None:
    loop = compute(whole, "loop")
    seen = {method: compute(whole, method)["samples_seen"] for method in ALL}
    longer = seen.pop("uniform_equal_compute")
    assert set(seen.values()) == {loop["samples_seen"]}
    assert longer > loop["samples_seen"]
    spent = loop["training_flops"] + loop["scoring_flops"]
    batch = loop["training_flops"] / loop["samples_seen"] * 16
    assert spent - batch <= compute(whole, "uniform_equal_compute")["training_flops"] <= spent


def test_those_that_share_the_bootstrap_share_its_file(whole: Grid) -> None:
    loop = store_of(whole, "loop").model(0).stat().st_ino
    shared = [m for m in ALL if store_of(whole, m).model(0).stat().st_ino == loop]
    assert shared == ["loop", "oracle_after_bootstrap", "one_shot", "random_subset"]


def test_a_random_subset_is_fixed_and_as_large_as_the_loops_last_selection(whole: Grid) -> None:
    store = store_of(whole, "random_subset")
    first, last = (read_subset(store.stage(r, "select") / "subset.npy") for r in (0, 2))
    assert np.array_equal(first, last)
    assert len(last) == len(read_subset(store_of(whole, "loop").final / "subset.npy"))


def test_one_shot_selects_once_for_training(whole: Grid) -> None:
    assert store_of(whole, "one_shot").rounds() == [0, 1]
    assert compute(whole, "one_shot")["scoring_passes"] == 1


def test_a_fixed_set_is_trained_on_nothing_but_the_loops_selection(whole: Grid) -> None:
    chosen = read_subset(store_of(whole, "loop").final / "subset.npy")
    for round_ in range(3):
        used = read_subset(store_of(whole, "fixed_set").stage(round_, "select") / "subset.npy")
        assert np.array_equal(used, chosen)


def test_in_the_mix_the_loops_selection_stands_twice(whole: Grid) -> None:
    chosen = {tuple(u) for u in read_subset(store_of(whole, "loop").final / "subset.npy")}
    config = load_config(store_of(whole, "mix").config_path)
    uids, times = np.unique(read_subset(Path(str(config.pool.subset))), axis=0, return_counts=True)
    assert {tuple(u) for u in uids[times == 2]} == chosen
    assert set(times) == {1, 2}
    assert len(uids) == store_of(whole, "uniform").summary(2, "select")["base"]


def test_cross_fitting_selects_in_each_half_with_the_others_scores(whole: Grid) -> None:
    halves = {}
    for which in ("a", "b"):
        config = load_config(store_of(whole, f"cross_fit_{which}").config_path)
        halves[which] = {tuple(u) for u in read_subset(Path(str(config.pool.subset)))}
    assert not halves["a"] & halves["b"]
    assert len(halves["a"] | halves["b"]) == 160
    config = load_config(store_of(whole, "cross_fit").config_path)
    union = {tuple(u) for u in read_subset(Path(str(config.pool.subset)))}
    for which, other in (("a", "b"), ("b", "a")):
        folder = store_of(whole, f"cross_fit_{other}").stage(2, "score")
        scores = pq.read_table([str(p) for p in sorted(folder.glob("*.parquet"))])
        uid = [(int(u.hex()[:16], 16), int(u.hex()[16:], 16)) for u in scores["uid"].to_pylist()]
        ranked = sorted(
            (-s, u)
            for u, s, probe in zip(
                uid, scores["neg_clip_loss"].to_pylist(), scores["probe"].to_pylist(), strict=True
            )
            if u in halves[which] and not probe
        )
        best = {u for _, u in ranked[: round(0.4 * len(ranked))]}
        assert best <= union
        assert len(union & halves[which]) < len(ranked)


def test_what_a_method_is_made_from_counts_as_its_compute(whole: Grid) -> None:
    write_report(whole, "selffilter experiment x.yaml")
    rows = pq.read_table(whole.experiment.root / "results.parquet").to_pylist()
    used = {row["method"]: row["used_flops"] for row in rows}
    loop = compute(whole, "loop")
    final_pass = loop["scoring_flops"] / loop["scoring_passes"]
    total = loop["training_flops"] + loop["scoring_flops"] + final_pass
    assert used["fixed_set"] == used["mix"] == pytest.approx(total)
    assert used["cross_fit"] > loop["training_flops"]
    assert {used[m] for m in ALL if m not in ("fixed_set", "mix", "cross_fit")} == {0.0}


def test_results_hold_every_evaluation_number_of_every_run(whole: Grid) -> None:
    path = write_report(whole, "selffilter experiment x.yaml")
    assert path is not None
    results = pq.read_table(whole.experiment.root / "results.parquet").to_pylist()
    assert {row["method"] for row in results} == set(ALL)
    assert {"acc1", "acc5", "mean_per_class_recall"} <= {row["metric"] for row in results}
    axes = ("pool", "noise", "rate", "seed", "set")
    assert {tuple(row[axis] for axis in axes) for row in results} == {
        ("half", "mismatched", 0.5, 0, "eval")
    }
    loop = store_of(whole, "loop")
    (acc1,) = [r for r in results if (r["method"], r["metric"]) == ("loop", "acc1")]
    assert acc1["value"] == loop.summary(2, "train")["acc1"]
    assert acc1["precision"] == loop.summary(2, "select")["precision"]
    assert acc1["clean_share"] == compute(whole, "loop")["clean_share"]

    rounds = pq.read_table(whole.experiment.root / "rounds.parquet").to_pylist()
    auc = {r["round"]: r["value"] for r in rounds if (r["method"], r["metric"]) == ("loop", "auc")}
    assert auc == {r: loop.summary(r, "select")["auc"] for r in range(3)}
    seen = [r["samples_seen"] for r in rounds if (r["method"], r["metric"]) == ("uniform", "acc1")]
    assert seen == [0, 80, 128, 192]  # before the first step, and after each round


def test_the_report_has_a_line_a_method_and_a_figure_a_pool(whole: Grid) -> None:
    path = write_report(whole, "selffilter experiment x.yaml")
    assert path is not None
    text = path.read_text()
    for method in ALL:
        assert f"| {method} |" in text
    assert f"{len(ALL)} of {len(ALL)} runs finished" in text
    assert "| cross_fit_a |" not in text  # a part of another method
    assert (whole.experiment.root / "half.png").read_bytes().startswith(b"\x89PNG")
    assert "![half" in text


def test_a_dry_run_shows_the_grid_and_what_is_done(
    whole: Grid, capsys: pytest.CaptureFixture[str]
) -> None:
    print_grid(whole, whole.check())
    said = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in said.splitlines() if "half/" in line}
    assert rows["half/loop-seed0"][1:3] == ["192", "–"]
    assert rows["half/uniform-seed0"][1:3] == ["192", "–"]
    assert rows["half/one_shot-seed0"][1:3] == ["192", "80"]  # of them shared
    assert {row[-1] for row in rows.values()} == {"done"}
    assert f"{len(ALL) + 2} runs" in said
    assert " 0 of them left" in said


def test_a_second_command_does_nothing(whole: Grid) -> None:
    launcher = InThisProcess()
    outcome = Runner(whole, whole.check(), launcher, 1, Screen(quiet=True), StopRequest()).run()
    assert launcher.started == []
    assert len(outcome.done) == len(whole.jobs)


def test_killed_in_the_middle_it_goes_on_where_it_was(
    write_experiment: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_experiment(
        methods=["loop", "uniform"], overrides=["train.checkpoint_every_steps=2"]
    )

    def die(context: Any, kind: str, round_: int, stage: str, step: int, values: Any) -> None:
        log(context, kind, round_, stage, step, values)
        if context.config.name == "uniform-seed0" and kind == "train" and step == 9:
            raise Killed

    log = train_stage.RunContext.log
    with monkeypatch.context() as patch:
        patch.setattr(train_stage.RunContext, "log", die)
        grid, outcome, started = go(path)
    assert started == ["loop-seed0", "uniform-seed0"]
    assert [job.cell.method for job in outcome.failed] == ["uniform"]
    written = {p: p.stat().st_mtime_ns for p in grid.experiment.root.rglob("*.safetensors")}
    steps: list[int] = []

    def note(context: Any, kind: str, round_: int, stage: str, step: int, values: Any) -> None:
        log(context, kind, round_, stage, step, values)
        steps.extend([step] if kind == "train" else [])

    with monkeypatch.context() as patch:
        patch.setattr(train_stage.RunContext, "log", note)
        _, outcome, started = go(path)
    assert started == ["uniform-seed0"]
    assert not outcome.failed
    assert steps == [9, 10, 11, 12]  # from the checkpoint after step 8
    kept = {p: when for p, when in written.items() if "uniform" not in str(p)}
    assert kept == {p: p.stat().st_mtime_ns for p in kept}


def test_a_changed_file_is_refused_run_by_run_and_field_by_field(write_experiment: Write) -> None:
    go(write_experiment(methods=["oracle"]))
    with pytest.raises(UserError) as refused:
        open_grid(write_experiment(overrides=["train.learning_rate=0.1"])).check()
    said = str(refused.value)
    assert "nothing was started" in said
    assert "half/oracle-seed0 was begun with another config" in said
    assert "half/loop-seed0" not in said  # not begun yet
    assert "train.learning_rate: 0.0005 -> 0.1" in said
    open_grid(write_experiment(methods=["oracle", "loop", "top_only"], seeds=[0, 1])).check()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"variants": {"v": ["rounds.count=99"]}}, "half/v-seed0: .*99 rounds need"),
        (
            {"variants": {"v": {"start": "bootstrap", "changes": {"rounds.count": 12}}}},
            "half/v-seed0: .*ends at step",
        ),
        ({"variants": {"v": {"changes": {"pool.subset": "{clen}"}}}}, "no placeholder {clen}"),
        (
            {"methods": ["loop_equal_compute"], "overrides": ["score.bank_size=160"]},
            "nothing is left to train",
        ),
        ({"overrides": ["train.global_batch_size=4096"]}, "batches of 4096"),
        ({"overrides": ["model.name=ViT-Q"]}, "open_clip knows no such model"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_before_anything_starts(
    fields: dict[str, object], says: str, write_experiment: Write
) -> None:
    with pytest.raises(UserError, match=says):
        open_grid(write_experiment(**fields)).check()


def test_an_oracle_without_planted_noise_is_refused(place: Path, write_experiment: Write) -> None:
    bare = [{"name": "half", "shards": [str(place / "shards")]}]
    with pytest.raises(UserError, match="half/oracle-seed0: which rows are clean is not known"):
        open_grid(write_experiment(pools=bare)).check()


def test_some_methods_alone_bring_what_they_need_and_no_more(write_experiment: Write) -> None:
    path = write_experiment(keep="results", methods=["loop", "top_only"])
    grid, _, started = go(path, only=("top_only",))
    assert started == ["loop-seed0", "top_only-seed0"]
    assert not store_of(grid, "loop").is_done(0, "score")
    assert not store_of(grid, "top_only").state(2).exists()  # keep: results
    assert store_of(grid, "loop").state(0).exists()  # still to go on
    report = write_report(grid.with_jobs(expand(grid.experiment)), "")
    assert report is not None
    assert "1 of 2 runs finished" in report.read_text()
    go(path)
    assert not store_of(grid, "loop").state(0).exists()


def test_the_command_saves_on_ctrl_c_and_goes_on(write_experiment: Write, tmp_path: Path) -> None:
    path = write_experiment(methods=["loop"], overrides=["rounds.samples_seen=3200"])
    command = [sys.executable, "-m", "selffilter", "experiment", str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    metrics = tmp_path / "out" / "test" / "half" / "loop-seed0" / "rounds" / "000" / "metrics.jsonl"
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not (
        metrics.exists() and '"kind": "train"' in metrics.read_text()
    ):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=200)
    assert process.returncode == 75, said
    assert "half/loop-seed0: stopped and saved" in said
    assert f"The same command goes on:  selffilter experiment {path}" in said
