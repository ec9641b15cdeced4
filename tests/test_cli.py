"""The command line as its user meets it: right commands, wrong ones, and what they say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from selffilter import __version__, cli

SMALL = [
    "rounds.samples_seen=192", "rounds.count=2", "train.global_batch_size=32",
    "train.log_every_steps=1", "score.bank_size=64", "track.wandb=disabled",
]  # fmt: skip


def selffilter(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "selffilter", *words],
        cwd=cwd, capture_output=True, text=True, timeout=400,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "100"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A small demo with its controls: where it ran, and what it said."""
    cwd = tmp_path_factory.mktemp("demo")
    done = selffilter("demo", "--compare", "--noise", "0.4", *SMALL, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd, done.stderr


def test_version_and_help(tmp_path: Path) -> None:
    assert selffilter("--version", cwd=tmp_path).stdout.strip() == f"selffilter {__version__}"
    shown = selffilter("--help", cwd=tmp_path).stdout
    for command in ("demo", "run", "plan", "status", "fork", "evaluate", "experiment", "noise"):
        assert command in shown


def test_what_is_stopped_at_once_says_that_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(_: Path, **asked: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("selffilter.rundir.status_command.show_status", stopped)
    monkeypatch.setattr(sys, "argv", ["selffilter", "status", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 130
    assert "stopped at once; the same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("train.learning_rat=1", "'train.learning_rat'. Did you mean 'train.learning_rate'?"),
        ("learning_rate=1", "Did you mean 'train.learning_rate'?"),
        ("rounds.count=many", "rounds.count"),
        ("rounds.count=0", "rounds.count=0 is not in [1, 999]"),
        ("train.schedule=cosin", "Did you mean 'cosine'?"),
        ("score.signal=cosin", "Did you mean 'cosine'?"),
        ("model.name=ViT-B-31", "open_clip knows no such model"),
        ("nothing", "'nothing' is not key=value"),
        ("pool.shards=[nowhere]", "there is no nowhere"),
        ("rounds.samples_seen=100", "3 batches of 32"),
        ("train.global_batch_size=8192", "do not fill one batch of 8192"),
    ],
)
def test_a_mistake_ends_in_one_sentence_and_exit_code_2(
    word: str, says: str, demo: tuple[Path, str], tmp_path: Path
) -> None:
    pool = demo[0] / "runs" / "demo-data" / "openclipart-noise40-seed0" / "pool"
    config = tmp_path / "my.yaml"
    config.write_text("model: {name: ViT-B-32}\nrounds: {count: 4}\n")
    words = [f"pool.shards=[{pool}]", "train.global_batch_size=32", "track.wandb=disabled", word]
    done = selffilter("run", str(config), *words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("runs/selffilter/rounds"))


def test_the_demo_shows_a_row_a_round_and_where_everything_lies(demo: tuple[Path, str]) -> None:
    cwd, said = demo
    rows = [line.split() for line in said.splitlines() if line.strip()[:1].isdigit()]
    assert [row[:2] for row in rows if row[0] in "01"][:2] == [["0", "64"], ["1", "192"]]
    assert "2,945 of them with another's caption" in said
    for place in ("final", "final/subset.npy", "metrics.jsonl"):
        assert (cwd / "runs" / "demo-noise40-seed0" / place).exists()
        assert f"runs/demo-noise40-seed0/{place}" in said


def test_compare_ends_with_one_honest_table(demo: tuple[Path, str]) -> None:
    table = demo[1][demo[1].index("samples seen", demo[1].index("\noracle: ")) :]
    lines = {line.split()[0]: line.split()[1:] for line in table.splitlines()[1:4]}
    assert set(lines) == {"self-filtering", "uniform", "oracle"}
    assert {line[0] for line in lines.values()} == {"192"}
    clean = {kind: float(line[1]) for kind, line in lines.items()}
    assert clean["uniform"] == pytest.approx(0.6, abs=0.1)
    assert clean["oracle"] == 1 > clean["self-filtering"]


def test_no_truth_and_no_label_reaches_the_pool(demo: tuple[Path, str]) -> None:
    import tarfile

    pool = demo[0] / "runs" / "demo-data" / "openclipart-noise40-seed0" / "pool"
    with tarfile.open(pool / "00000.tar") as tar:
        texts = [tar.extractfile(m).read() for m in tar if m.name.endswith(".json")]
    assert len(texts) == 512
    assert not any(b"label" in text or b"clean" in text for text in texts)


def test_status_says_where_a_run_stands(demo: tuple[Path, str]) -> None:
    done = selffilter("status", "runs/demo-noise40-seed0", cwd=demo[0])
    assert done.returncode == 0
    assert "192 of 192 samples seen" in done.stdout
    assert done.stdout.rstrip().endswith("finished")
    assert selffilter("status", "nowhere", cwd=demo[0]).returncode == 2


def test_plan_says_what_would_happen(demo: tuple[Path, str]) -> None:
    config = "runs/demo-noise40-seed0/config.yaml"
    done = selffilter("plan", config, "--ranks", "4", cwd=demo[0])
    assert done.returncode == 0, done.stderr
    assert "7,363 rows in 15 shards" in done.stdout
    assert "4 × 8 = batches of 32" in done.stdout
    assert "warning: round 1 consumes 0.0" in done.stdout
    assert "scoring costs" in done.stdout
    refused = selffilter("plan", config, "--ranks", "5", cwd=demo[0])
    assert refused.returncode == 2
    assert "5 processes do not divide" in refused.stderr


def test_fork_and_run(demo: tuple[Path, str]) -> None:
    run_dir = "runs/demo-noise40-seed0"
    forked = selffilter("fork", run_dir, "--name", "cosine", "score.signal=cosine", cwd=demo[0])
    assert forked.returncode == 0, forked.stderr
    done = selffilter("run", "runs/cosine/config.yaml", cwd=demo[0])
    assert done.returncode == 0, done.stderr
    assert (demo[0] / "runs" / "cosine" / "final" / "subset.npy").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_and_the_same_command_goes_on(
    number: int, demo: tuple[Path, str], tmp_path: Path
) -> None:
    pool = demo[0] / "runs" / "demo-data"
    command = [sys.executable, "-m", "selffilter", "demo", "--noise", "0.4", "--out", "runs"]
    command += [word.replace("=192", "=6400") for word in SMALL]
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo-data").symlink_to(pool)
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    metrics = tmp_path / "runs" / "demo-noise40-seed0" / "rounds" / "000" / "metrics.jsonl"
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not (
        metrics.exists() and '"kind": "train"' in metrics.read_text()
    ):
        time.sleep(0.1)
    process.send_signal(number)
    _, said = process.communicate(timeout=200)
    assert process.returncode == 75, said
    assert "stopped and saved" in said
    state = metrics.parent / "train" / "last.ckpt"
    assert state.exists()
    assert not (tmp_path / "runs" / "demo-noise40-seed0" / "lease.json").exists()
    status = selffilter("status", "runs/demo-noise40-seed0", cwd=tmp_path)
    assert "next: train of round 0" in status.stdout
