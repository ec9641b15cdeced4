"""The loop on a small real pool: what it leaves, and that stopping it changes nothing."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from selffilter.config import Config, load_config, read_run_config
from selffilter.errors import UserError
from selffilter.pool import uids
from selffilter.pool.demo import ASSETS
from selffilter.pool.subset import read_subset, write_subset
from selffilter.run import run
from selffilter.rundir.forking import fork
from selffilter.store import RunStore, iterate_jsonl, read_json
from selffilter.team import Team
from selffilter.tracking.console import Screen
from selffilter.training.state import TrainState

SHARDS, PER_SHARD, BATCH, ROUNDS = 4, 40, 16, 3
MODEL = {
    "embed_dim": 32,
    "vision_cfg": {
        "image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8,
        "patch_dropout": 0.25,
    },
    "text_cfg": {"context_length": 12, "width": 32, "heads": 2, "layers": 1},
}  # fmt: skip


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool of real clip-art, a few samples of it broken, and an evaluation set."""
    home = tmp_path_factory.mktemp("home")
    samples = pq.read_table(ASSETS / "openclipart.parquet").slice(0, SHARDS * PER_SHARD).to_pylist()
    samples[3]["image"] = b"no image at all"
    jpeg = io.BytesIO()
    Image.open(io.BytesIO(samples[50]["image"])).save(jpeg, "JPEG")
    samples[50]["image"] = jpeg.getvalue()[: len(jpeg.getvalue()) // 2]
    samples[90]["caption"] = "  "
    (home / "pool").mkdir()
    for shard in range(SHARDS):
        part = samples[shard * PER_SHARD : (shard + 1) * PER_SHARD]
        members = [(f"{s['uid']}.{e}", d) for s in part for e, d in _members(s)]
        _write_tar(home / "pool" / f"{shard:05d}.tar", members)
    (home / "eval" / "test").mkdir(parents=True)
    evaluation = pq.read_table(ASSETS / "openclipart_eval.parquet").slice(0, 60).to_pylist()
    members = [
        (f"s{i}.{e}", d)
        for i, s in enumerate(evaluation)
        for e, d in (("cls", str(s["cls"]).encode()), ("webp", s["image"]))
    ]
    _write_tar(home / "eval" / "test" / "0.tar", members)
    (home / "eval" / "test" / "nshards.txt").write_text("1\n")
    texts = json.loads((ASSETS / "openclipart_eval.json").read_text())
    (home / "eval" / "classnames.txt").write_text("\n".join(texts["classnames"]))
    (home / "eval" / "zeroshot_classification_templates.txt").write_text("{c}\na {c}\n")
    (home / "test-vit.json").write_text(json.dumps(MODEL))
    clean = pa.array(np.arange(len(samples)) % 2 == 0)
    truth = pa.table({"uid": [s["uid"] for s in samples], "clean": clean})
    pq.write_table(truth, home / "truth.parquet")
    return home


def _members(sample: dict) -> list[tuple[str, bytes]]:
    about = json.dumps({"uid": sample["uid"]}).encode()
    return [("json", about), ("txt", sample["caption"].encode()), ("webp", sample["image"])]


def _write_tar(path: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def words(home: Path, runs: Path, name: str, *more: str) -> list[str]:
    return [
        f"name={name}", f"runs_dir={runs}", f"pool.shards=[{home / 'pool'}]",
        f"pool.index_dir={home / 'index'}", f"model.name={home / 'test-vit.json'}",
        f"evaluate.zero_shot=[{home / 'eval'}]", f"evaluate.truth={home / 'truth.parquet'}",
        f"rounds.samples_seen={12 * BATCH}", f"rounds.count={ROUNDS}",
        "rounds.bootstrap_fraction=0.4", "rounds.fresh_weights_at=[]",
        "select.keep_fraction=0.4", "select.diverse_fraction=0.2",
        f"train.global_batch_size={BATCH}", "train.warmup_steps=2", "train.ema_decay=0.9",
        "train.log_every_steps=1", "train.checkpoint_every_steps=2", "score.bank_size=32",
        "score.batch_size=16", "select.probe_fraction=0.1", "track.wandb=disabled",
        "hardware.workers=0", "hardware.accelerator=cpu", *more,
    ]  # fmt: skip


def config_of(home: Path, runs: Path, name: str, *more: str) -> Config:
    return load_config(None, words(home, runs, name, *more))


def go(config: Config, only: str | None = None) -> RunStore:
    return run(config, Team(torch.device("cpu")), Screen(quiet=True), only)


@pytest.fixture(scope="session")
def whole(home: Path, tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """A run from beginning to end, not interrupted."""
    return go(config_of(home, tmp_path_factory.mktemp("runs"), "whole"))


def read_stage(folder: Path, columns: list[str] | None = None) -> pa.Table:
    return pq.read_table([str(p) for p in sorted(folder.glob("*.parquet"))], columns=columns)


def same_run(a: RunStore, b: RunStore) -> None:
    """Selections byte for byte, weights and optimizer bit for bit, the same records."""
    for round_ in range(ROUNDS):
        folder = a.stage(round_, "select")
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            twin = b.stage(round_, "select") / path.relative_to(folder)
            assert path.read_bytes() == twin.read_bytes(), path
        x, y = (TrainState.load(store.state(round_)) for store in (a, b))
        assert x.step == y.step
        for name in x.model:
            assert torch.equal(x.model[name], y.model[name]), name
            assert torch.equal(x.ema[name], y.ema[name]), name
        for key, moments in x.optimizer["state"].items():
            for name, value in moments.items():
                assert torch.equal(value, y.optimizer["state"][key][name])
    timed = ("samples_per_s", "data_wait", "read_mb", "read_requests", "read_ahead")
    timed += ("step_s", "peak_memory_mb", "tflops", "mfu")
    records = [
        [
            {k: v for k, v in r.items() if k not in timed}
            for r in iterate_jsonl(s.root / "metrics.jsonl")
        ]
        for s in (a, b)
    ]
    assert records[0] == records[1]


def test_a_run_leaves_exactly_these_files(whole: RunStore) -> None:
    left = {str(p.relative_to(whole.root)) for p in whole.root.rglob("*") if p.is_file()}
    shards = [f"{s:05d}.parquet" for s in range(SHARDS)]
    expected = {"config.yaml", "environment.json", "metrics.jsonl"}
    for r in range(ROUNDS):
        home = f"rounds/{r:03d}"
        expected |= {f"{home}/metrics.jsonl"}
        expected |= {
            f"{home}/train/{n}" for n in ("last.ckpt", "model.safetensors", "summary.json")
        }
        expected |= {f"{home}/scores/{n}" for n in [*shards, "bank.safetensors", "summary.json"]}
        selection = ["counts.npy", "subset.npy", "summary.json"]
        selection += ["about/groups.parquet", "about/histograms.json"]
        expected |= {f"{home}/selection/{n}" for n in [*shards, *selection]}
    names = ("open_clip_model.safetensors", "open_clip_config.json", "subset.npy", "compute.json")
    expected |= {f"final/{name}" for name in names}
    assert left == expected


def test_every_indexed_row_is_accounted_for(whole: RunStore) -> None:
    for round_ in range(ROUNDS):
        account = whole.summary(round_, "select")["account"]
        assert account.pop("indexed") == SHARDS * PER_SHARD == sum(account.values())
        failed = {k: v for k, v in account.items() if k.startswith(("image", "caption"))}
        assert failed == {"image_unreadable": 1, "image_truncated": 1, "caption_empty": 1}


def test_failed_and_probe_rows_are_never_selected(whole: RunStore) -> None:
    for round_ in range(ROUNDS):
        scores = read_stage(whole.stage(round_, "score"), columns=["row", "failure", "probe"])
        forbidden = scores["row"].to_numpy()[
            (scores["failure"].to_numpy() > 0) | scores["probe"].to_numpy()
        ]
        selection = read_stage(whole.stage(round_, "select"), columns=["row"])
        assert len(forbidden) > 3
        assert not np.intersect1d(selection["row"].to_numpy(), forbidden).size


def test_the_selection_has_the_asked_shares_and_says_why_each_row_is_there(whole: RunStore) -> None:
    summary = whole.summary(1, "select")
    table = read_stage(whole.stage(1, "select"))
    shares = np.array(table["share"].to_pylist())
    assert (shares == "confident").sum() == summary["confident"] == round(0.4 * summary["base"])
    assert summary["diverse_drawn"] == round(0.2 * summary["base"])
    confident = table.filter(pa.array(shares == "confident"))
    assert sorted(confident["rank"].to_pylist()) == list(range(summary["confident"]))
    assert min(confident["score"].to_pylist()) == pytest.approx(summary["threshold"])


def test_open_clip_loads_the_exported_model(whole: RunStore, home: Path) -> None:
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{whole.final}")
    state = TrainState.load(whole.state(ROUNDS - 1))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, state.ema[name].to(value.dtype), rtol=0, atol=0)
    assert preprocess.transforms[0].size in (16, (16, 16))


def test_the_final_subset_is_the_last_selection(whole: RunStore) -> None:
    uids = read_stage(whole.stage(ROUNDS - 1, "select"), columns=["uid"])["uid"].to_pylist()
    subset = read_subset(whole.final / "subset.npy")
    assert [f"{hi:016x}{lo:016x}" for hi, lo in subset.tolist()] == sorted(u.hex() for u in uids)


def test_zero_shot_is_measured_before_the_first_step_and_after_each_round(whole: RunStore) -> None:
    records = [r for r in iterate_jsonl(whole.root / "metrics.jsonl") if r["kind"] == "zero_shot"]
    assert [r["samples_seen"] for r in records] == [0, 80, 128, 192]


def test_a_finished_run_run_again_changes_nothing(whole: RunStore, home: Path) -> None:
    before = {
        p: p.stat().st_mtime_ns for p in whole.root.rglob("*") if p.suffix in (".ckpt", ".parquet")
    }
    go(config_of(home, whole.root.parent, "whole"))
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_stages_as_separate_jobs_equal_one_run(whole: RunStore, home: Path, tmp_path: Path) -> None:
    config = config_of(home, tmp_path, "staged")
    for _ in range(ROUNDS):
        for stage in ("train", "score", "select"):
            go(config, only=stage)
    with pytest.raises(UserError, match="next stage"):
        go(config_of(home, tmp_path, "other"), only="score")
    store = RunStore(config.run_dir)
    assert (store.final / "subset.npy").exists()  # the last stage finishes the run
    same_run(whole, store)


@pytest.mark.parametrize("at", [1, 3, 5, 6, 11])
def test_stopped_inside_training_and_continued_equals_uninterrupted(
    at: int, whole: RunStore, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(home, tmp_path, "stopped")
    from selffilter.stages import train as stage

    class Killed(BaseException):
        pass

    def die(context, kind, round_, stage_, step, values, log=stage.RunContext.log):
        log(context, kind, round_, stage_, step, values)
        if kind == "train" and step == at:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(stage.RunContext, "log", die)
        with pytest.raises(Killed):
            go(config)
    same_run(whole, go(config))


def test_stopped_while_scoring_keeps_finished_shards(
    whole: RunStore, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from selffilter.scoring import pool_pass

    config = config_of(home, tmp_path, "stopped")

    def die(path, table, write=pool_pass.write_table):
        if path.name == "00002.parquet":
            raise OSError("no space left on device")
        write(path, table)

    with monkeypatch.context() as patch:
        patch.setattr(pool_pass, "write_table", die)
        with pytest.raises(OSError, match="no space"):
            go(config)
    store = RunStore(config.run_dir)
    kept = {p.name: p.stat().st_mtime_ns for p in store.stage(0, "score").glob("*.parquet")}
    assert sorted(kept) == ["00000.parquet", "00001.parquet"]
    go(config)
    assert kept == {name: (store.stage(0, "score") / name).stat().st_mtime_ns for name in kept}
    same_run(whole, store)


def test_a_changed_config_is_refused_field_by_field(whole: RunStore, home: Path) -> None:
    with pytest.raises(UserError, match=r"train.learning_rate: 0.0005 -> 0.1"):
        go(config_of(home, whole.root.parent, "whole", "train.learning_rate=0.1"))


def test_a_fork_shares_the_bootstrap_and_goes_its_own_way(
    whole: RunStore, home: Path, tmp_path: Path
) -> None:
    changes = ("select.keep_fraction=0", "select.diverse_fraction=1")
    config = config_of(home, tmp_path, "uniform", *changes)
    store = fork(whole, config, from_round=0)
    assert store.state(0).stat().st_ino == whole.state(0).stat().st_ino
    go(config)
    for round_ in range(ROUNDS):
        summary = store.summary(round_, "select")
        assert summary["selected"] == summary["diverse"] == summary["base"]
        assert summary["account"] == whole.summary(round_, "select")["account"] | {
            "base_scored": 0,
            "base_not_scored": summary["base"],
        }
    assert store.summary(0, "score")["scores_from"] == "none"
    assert read_json(store.final / "compute.json")["scoring_flops"] == 0
    a, b = (TrainState.load(s.state(ROUNDS - 1)).model for s in (whole, store))
    assert not all(torch.equal(a[name], b[name]) for name in a)
    with pytest.raises(UserError, match="exists already"):
        fork(whole, config, from_round=0)


def test_a_later_fork_says_by_which_fractions_the_shared_rounds_were_selected(
    whole: RunStore, home: Path, tmp_path: Path
) -> None:
    changes = ("select.keep_fraction=0", "select.diverse_fraction=[1,0.9]")
    store = fork(whole, config_of(home, tmp_path, "late", *changes), from_round=1)
    config = read_run_config(store.config_path)
    assert config.select.keep_fraction == [0.4, 0, 0]
    assert config.select.diverse_fraction == [0.2, 0.9, 0.9]
    go(config)
    for round_, share in enumerate((0.2, 0.9, 0.9)):
        summary = store.summary(round_, "select")
        assert summary["diverse_drawn"] == round(share * summary["base"])
    assert store.summary(0, "select") == whole.summary(0, "select")
    assert read_json(store.final / "compute.json")["scoring_passes"] == 1


def test_a_fork_that_does_not_fit_is_refused(whole: RunStore, home: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="seed"):
        fork(whole, config_of(home, tmp_path, "x", "seed=1"), from_round=0)
    with pytest.raises(UserError, match="ends at step"):
        fork(whole, config_of(home, tmp_path, "x", "rounds.bootstrap_fraction=0.6"), from_round=0)
    anew = config_of(home, tmp_path, "x", "rounds.fresh_weights_at=[1,2]")
    with pytest.raises(UserError, match=r"none began anew by rounds\.fresh_weights_at"):
        fork(whole, anew, from_round=1)
    assert not (tmp_path / "x").exists()
    fork(whole, anew, from_round=0)


def test_a_run_on_a_subset_scores_the_whole_pool_and_selects_inside(
    whole: RunStore, home: Path, tmp_path: Path
) -> None:
    subset = tmp_path / "half.npy"
    every = pq.read_table(home / "truth.parquet")["uid"].to_pylist()
    half = set(every[::2])
    write_subset(subset, uids.from_hex(sorted(half)))
    config = config_of(home, tmp_path, "half", f"pool.subset={subset}")
    store = go(config)
    account, before = (s.summary(1, "select")["account"] for s in (store, whole))
    assert account["outside"] > 60 and sum(account.values()) == 2 * account["indexed"]
    assert account["base_scored"] + account["outside"] == before["base_scored"]
    scores = read_stage(store.stage(1, "score"), columns=["neg_clip_loss", "outside", "failure"])
    outside = scores["outside"].to_numpy()
    assert np.isfinite(scores["neg_clip_loss"].to_numpy()[outside]).all()
    chosen = set(uids.to_hex(read_subset(store.final / "subset.npy")))
    assert chosen and chosen <= half
    write_subset(subset, uids.from_hex(sorted(half)[1:]))
    with pytest.raises(UserError, match="has changed"):
        go(config)


def test_a_frozen_scorer_carries_the_scores_of_the_bootstrap(home: Path, tmp_path: Path) -> None:
    store = go(config_of(home, tmp_path, "frozen", "score.rescore=once"))
    for path in store.stage(0, "score").glob("*.parquet"):
        carried = store.stage(ROUNDS - 1, "score") / path.name
        assert carried.read_bytes() == path.read_bytes()
        assert set(pq.read_table(carried)["scored_round"].to_pylist()) == {0}
    a, b = (read_stage(store.stage(r, "select"), columns=["row", "share"]) for r in (0, 1))
    assert not a.equals(b)  # the diverse share is drawn anew all the same


def test_given_scores_choose_the_confident_share(home: Path, tmp_path: Path) -> None:
    truth = pq.read_table(home / "truth.parquet")
    scores = tmp_path / "scores.parquet"
    pq.write_table(pa.table({"uid": truth["uid"], "score": truth["clean"].cast("float32")}), scores)
    store = go(
        config_of(
            home, tmp_path, "oracle", "score.signal=given", f"score.given_scores={scores}",
            "select.keep_fraction=0.3", "select.diverse_fraction=0",
        )
    )  # fmt: skip
    assert store.summary(0, "select")["precision"] == 1.0
    assert read_json(store.final / "compute.json")["clean_share"] < 1.0  # the bootstrap saw all


def test_given_scores_of_another_pool_are_refused_before_training(
    home: Path, tmp_path: Path
) -> None:
    scores = tmp_path / "scores.parquet"
    pq.write_table(pa.table({"uid": ["f" * 32], "score": [1.0]}), scores)
    words = ("score.signal=given", f"score.given_scores={scores}")
    with pytest.raises(UserError, match="none of its 1 uids is in the pool"):
        go(config_of(home, tmp_path, "other", *words))
    assert not (tmp_path / "other" / "rounds").exists()


def test_restart_begins_each_round_from_fresh_weights(home: Path, tmp_path: Path) -> None:
    store = go(config_of(home, tmp_path, "restart", "rounds.fresh_weights_at=[1,2]"))
    last = [r for r in iterate_jsonl(store.root / "metrics.jsonl") if r["kind"] == "train"]
    rates = [r["learning_rate"] for r in last if r["round"] == 1]
    assert rates[0] == pytest.approx(0.5 * 5e-4)  # warm-up again


KILL_AT = """
import os, signal, sys
from pathlib import Path
import test_end_to_end as here
from selffilter.stages.context import RunContext

home, runs, name, step, *more = sys.argv[1:]
log = RunContext.log

def die(context, kind, round_, stage, at, values):
    log(context, kind, round_, stage, at, values)
    if kind == "train" and at == int(step):
        os.kill(os.getpid(), signal.SIGKILL)

RunContext.log = die
here.go(here.config_of(Path(home), Path(runs), name, *more))
"""


@pytest.fixture(scope="session")
def fresh(home: Path, tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """A run whose middle round begins with fresh weights, not interrupted."""
    runs = tmp_path_factory.mktemp("fresh")
    return go(config_of(home, runs, "fresh", "rounds.fresh_weights_at=[1]"))


@pytest.mark.parametrize("at", [7, 9])
def test_killed_with_fresh_weights_in_a_middle_round_it_goes_on_to_the_same_run(
    at: int, fresh: RunStore, home: Path, tmp_path: Path
) -> None:
    more = "rounds.fresh_weights_at=[1]"
    command = [sys.executable, "-c", KILL_AT, str(home), str(tmp_path), "killed", str(at), more]
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    died = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert died.returncode == -signal.SIGKILL, died.stderr
    store = RunStore(tmp_path / "killed")
    assert (store.root / "lease.json").exists()  # nothing was tidied up
    assert not store.is_done(2 if at > 8 else 1, "train")
    same_run(fresh, go(config_of(home, tmp_path, "killed", more)))


def test_fresh_weights_as_separate_jobs_equal_one_run(
    fresh: RunStore, home: Path, tmp_path: Path
) -> None:
    config = config_of(home, tmp_path, "staged", "rounds.fresh_weights_at=[1]")
    for _ in range(ROUNDS):
        for stage in ("train", "score", "select"):
            go(config, only=stage)
    same_run(fresh, RunStore(config.run_dir))


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_other_precisions_train_score_and_go_on(precision: str, home: Path, tmp_path: Path) -> None:
    more = (f"hardware.precision={precision}", "hardware.deterministic=true", "rounds.count=2")
    store = go(config_of(home, tmp_path, "half", *more))
    torch.use_deterministic_algorithms(False)
    scores = read_stage(store.stage(1, "score"))
    usable = scores["failure"].to_numpy() == 0
    assert np.isfinite(scores["neg_clip_loss"].to_numpy()[usable]).all()
    kind = torch.bfloat16 if precision == "bf16-true" else torch.float32
    state = TrainState.load(store.state(1))
    assert {v.dtype for v in state.model.values() if v.is_floating_point()} == {kind}
    assert {v.dtype for v in state.ema.values() if v.is_floating_point()} == {torch.float32}


def torchrun(arguments: list[str], ranks: int, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(ranks), "-m", "selffilter", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )


def test_two_ranks_train_on_the_same_batches_and_select_almost_the_same(
    whole: RunStore, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.yaml").write_text("seed: 0\n")
    done = torchrun(["run", "empty.yaml", *words(home, tmp_path, "two")], 2, tmp_path)
    assert done.returncode == 0, done.stderr
    two = RunStore(tmp_path / "two")
    kinds = [r["kind"] for r in iterate_jsonl(two.root / "metrics.jsonl")]
    assert kinds == [r["kind"] for r in iterate_jsonl(whole.root / "metrics.jsonl")]
    # Patch dropout draws other patches on other ranks: the step is the same in expectation, not in
    # bits. So after the bootstrap alone we ask for closeness, not equality.
    a, b = (read_stage(s.stage(0, "select"), columns=["row"])["row"] for s in (whole, two))
    common = len(np.intersect1d(a.to_numpy(), b.to_numpy()))
    assert common / len(np.union1d(a.to_numpy(), b.to_numpy())) > 0.8
    assert two.summary(0, "select")["account"] == whole.summary(0, "select")["account"]


def test_a_run_goes_on_with_another_number_of_ranks(home: Path, tmp_path: Path) -> None:
    go(config_of(home, tmp_path, "grown"), only="train")
    (tmp_path / "empty.yaml").write_text("seed: 0\n")
    done = torchrun(["run", "empty.yaml", *words(home, tmp_path, "grown")], 2, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "grown" / "final" / "subset.npy").exists()


def test_ranks_that_do_not_divide_the_batch_are_refused(home: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("seed: 0\n")
    done = torchrun(["run", "empty.yaml", *words(home, tmp_path, "three")], 3, tmp_path)
    assert done.returncode != 0
    assert "3 processes do not divide train.global_batch_size=16; 1, 2, 4, 8" in done.stderr
    assert not (tmp_path / "three" / "config.yaml").exists()
