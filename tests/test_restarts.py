"""torchrun starts ranks again: what a restart goes on with, and what is not to be repeated."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.distributed import HashStore  # type: ignore[attr-defined]

from selffilter import team as team_module
from selffilter.endings import AnotherEnded, Ending, ending_of, final_before, note_final
from selffilter.errors import StoreGone, UserError
from selffilter.interrupt import Stopped, StopRequest, TornDown
from selffilter.store import RunStore, iterate_jsonl
from selffilter.team import Team, meet
from selffilter.training.state import TrainState

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 180


def in_threads(*works: Callable[[], object]) -> list[object]:
    """Do several things at once; return what each returned or raised."""
    found: list[object] = [None] * len(works)

    def work(i: int) -> None:
        try:
            found[i] = works[i]()
        except Exception as error:
            found[i] = error

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "it hangs"
    return found


def ranks(size: int) -> list[Team]:
    store = HashStore()
    return [Team(torch.device("cpu"), rank=r, size=size, local_size=size, store=store)
            for r in range(size)]  # fmt: skip


# --- ranks meet -----------------------------------------------------------------------------------


def test_each_start_of_the_ranks_has_a_name_of_its_own_in_a_store_that_outlives_them() -> None:
    store = HashStore()
    names = []
    for size in (3, 3, 2):
        found = in_threads(*[lambda r=r, n=size: meet(store, r, n) for r in range(size)])
        assert len(set(found)) == 1
        names.append(found[0])
    assert len(set(names)) == 3


def test_a_rank_that_was_killed_while_it_waited_is_not_taken_for_one_that_has_come() -> None:
    store = HashStore()
    with pytest.raises(RuntimeError, match="rank 0 has not come"):
        meet(store, 1, 2, patience_s=0)  # its word stays there
    with pytest.raises(RuntimeError, match=r"1 of 2 ranks .* rank 1"):
        meet(store, 0, 2, patience_s=0.1)
    assert len(set(in_threads(lambda: meet(store, 1, 2), lambda: meet(store, 0, 2)))) == 1


# --- ranks that wait hear of those that end -------------------------------------------------------


def test_what_rank_0_decides_is_what_all_get() -> None:
    teams = ranks(3)
    decisions = [lambda t=t: t.decide(lambda: {"rank": t.rank}) for t in teams]
    assert in_threads(*decisions) == [{"rank": 0}] * 3


def test_a_mistake_on_rank_0_ends_those_that_wait_for_its_decision() -> None:
    main, other = ranks(2)

    def decide() -> None:
        raise UserError("no such pool")

    mine, theirs = in_threads(lambda: main.decide(decide), lambda: other.decide(decide))
    assert isinstance(mine, UserError)
    assert isinstance(theirs, AnotherEnded)
    assert (theirs.ending.code, theirs.ending.message) == (2, "no such pool")


def test_who_waits_for_all_hears_of_the_one_that_will_not_come() -> None:
    waiting, ends = ranks(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RANK", "1")
        ends.tell(ValueError("two\nlines"))
    (found,) = in_threads(waiting.wait_for_all)
    assert isinstance(found, AnotherEnded)
    assert str(found) == "rank 1 ended: ValueError: two"
    assert ends.another_ended() is None


def test_who_waits_for_one_that_was_asked_to_stop_stops() -> None:
    waiting, ends = ranks(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RANK", "1")
        ends.tell(Stopped())
    assert isinstance(in_threads(waiting.wait_for_all)[0], Stopped)


def test_ranks_that_torchrun_ends_give_no_reason() -> None:
    waiting, ends = ranks(2)
    ends.tell(TornDown())
    assert waiting.another_ended() is None


def test_a_rank_that_waits_leaves_when_torchrun_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    waiting, _ = ranks(2)
    with StopRequest() as stop:
        waiting.while_waiting = stop.check_torn_down
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(TornDown):
            waiting.wait_for_all()


def test_a_rank_leaves_after_rank_0_when_all_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team_module, "_LOOK_EVERY_S", (0.001, 0.001))
    main, other = ranks(2)
    order: list[str] = []

    def save() -> None:
        time.sleep(0.05)
        order.append("saved")
        main.leave_after_main()

    def leave() -> None:
        other.leave_after_main()
        order.append("left")

    in_threads(leave, save)
    assert order == ["saved", "left"]


# --- who asked ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "launcher", "torn_down"),
    [
        ([signal.SIGTERM], "torchrun", True),
        ([signal.SIGINT], "torchrun", True),
        ([signal.SIGUSR1], "torchrun", False),
        ([signal.SIGUSR1, signal.SIGTERM], "torchrun", False),  # saving when the others had left
        ([], "torchrun", False),
        ([signal.SIGTERM], "", False),
    ],
)
def test_a_term_is_torchruns_where_there_is_one(
    numbers: list[int], launcher: str, torn_down: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    if launcher:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    with StopRequest() as stop:
        for number in numbers:
            os.kill(os.getpid(), number)
        assert stop.requested == bool(numbers)
        assert stop.is_torn_down == torn_down


# --- what is final --------------------------------------------------------------------------------


@pytest.fixture
def attempt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], None]:
    """Return a call that makes this process one of torchrun's attempts."""

    def begin(number: int, restarts: int = 2) -> None:
        reply = tmp_path / "none_x" / f"attempt_{number}" / "0" / "error.json"
        reply.parent.mkdir(parents=True)
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(reply))
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", str(number))
        monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", str(restarts))

    return begin


@pytest.mark.parametrize(
    ("error", "code", "final"),
    [
        (UserError("wrong"), 2, True),
        (OSError(28, "No space left on device", "/x"), 2, True),
        (StoreGone("s3://x does not answer"), 75, True),
        (Stopped(), 75, True),
        (OSError(5, "Input/output error"), 1, False),
        (RuntimeError("CUDA error"), 1, False),
        (AnotherEnded(Ending(75, "stopped", rank=3)), 75, True),
        (AnotherEnded(Ending(1, "ValueError: x", rank=3)), 1, False),
    ],
)
def test_a_crash_is_repeated_and_an_end_with_a_reason_is_not(
    error: Exception, code: int, final: bool, attempt: Callable[..., None]
) -> None:
    attempt(0)
    ending = ending_of(error)
    assert ending.code == code
    note_final(ending)
    attempt(1)
    assert final_before() == (ending if final else None)


def test_the_first_reason_is_the_one_that_is_kept(attempt: Callable[..., None]) -> None:
    attempt(0)
    note_final(Ending(2, "wrong", rank=1))
    note_final(Ending(75, "stopped"))
    attempt(1)
    assert final_before() == Ending(2, "wrong", rank=1)


def test_a_stop_asked_for_while_the_ranks_begin_is_not_forgotten(
    attempt: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt(0)
    monkeypatch.setenv("SELFFILTER_STOP_FILE", str(tmp_path / "asked"))
    assert final_before() is None
    (tmp_path / "asked").touch()  # the signal killed a process that had no handler yet
    attempt(1)
    before = final_before()
    assert before is not None and before.code == 75


def test_without_restarts_nothing_is_noted(
    attempt: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt(0, restarts=0)
    note_final(Ending(2, "wrong"))
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE")
    note_final(Ending(2, "wrong"))
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


# --- really run -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 pictures of random pixels with captions, in two tars."""
    folder = tmp_path_factory.mktemp("restarts") / "pool"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for shard in range(2):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for number in range(32):
                png = io.BytesIO()
                Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(png, "PNG")
                caption = f"picture {number} of shard {shard}".encode()
                for extension, data in (("png", png.getvalue()), ("txt", caption)):
                    info = tarfile.TarInfo(f"{shard:03d}{number:03d}.{extension}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return folder


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """What a test starts; what is still there at its end is told to go."""
    begun: list[subprocess.Popen[str]] = []
    yield begun
    for process in begun:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=PATIENCE_S)


def launch(processes: list[subprocess.Popen[str]], cwd: Path, *words: str) -> subprocess.Popen[str]:
    """Start two ranks with the launch script as it is."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = os.environ | {
        "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": path, "NPROC_PER_NODE": "2",
    }  # fmt: skip
    process = subprocess.Popen(
        ["bash", str(ROOT / "launch" / "torchrun_single_node.sh"), *words], cwd=cwd, env=env,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    processes.append(process)
    return process


def begin(processes: list[subprocess.Popen[str]], pool: Path, cwd: Path) -> subprocess.Popen[str]:
    cwd.mkdir(exist_ok=True)
    (cwd / "tiny.yaml").write_text(f"""
name: tiny
pool: {{shards: [{pool}], index_dir: {pool.parent}/index}}
model: {{name: {ROOT / "configs" / "models" / "tiny.json"}}}
rounds: {{samples_seen: 320, count: 2, bootstrap_fraction: 0.5}}
train: {{global_batch_size: 16, warmup_steps: 1, log_every_steps: 1, checkpoint_every_steps: 3}}
score: {{bank_size: 16, batch_size: 4}}
select: {{keep_fraction: 0.4, diverse_fraction: 0.2, probe_fraction: 0.1}}
track: {{wandb: disabled}}
hardware: {{accelerator: cpu, workers: 1}}
""")
    return launch(processes, cwd, "tiny.yaml")


def rank_process(cwd: Path, rank: int, restart: int) -> int | None:
    """The process id of a rank that works in a folder."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            here = (place / "cwd").resolve() == cwd.resolve()
            said = (place / "environ").read_bytes().decode().split("\0")
            parent = int((place / "stat").read_text().rsplit(")", 1)[1].split()[1])
            above = Path(f"/proc/{parent}/environ").read_bytes().decode().split("\0")
        except (OSError, ValueError):
            continue
        wanted = {f"RANK={rank}", f"TORCHELASTIC_RESTART_COUNT={restart}"}
        # Data loader processes have its environment, too: a rank is torchrun's child.
        if here and wanted <= set(said) and not any(w.startswith("RANK=") for w in above):
            return int(place.name)
    return None


def kill(
    process: subprocess.Popen[str], cwd: Path, rank: int, restart: int, when: Callable[[], bool]
) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while (found := rank_process(cwd, rank, restart)) is None or not when():
        assert time.monotonic() < deadline, "nothing happened"
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    os.kill(found, signal.SIGKILL)


def contents(store: RunStore) -> dict[str, object]:
    """What a run has left, but for times and places."""
    found: dict[str, object] = {}
    for path in sorted(p for p in store.root.rglob("*") if p.is_file()):
        name = str(path.relative_to(store.root))
        if path.suffix == ".ckpt":
            found[name] = as_plain(vars(TrainState.load(path)))
        elif path.suffix == ".jsonl":
            found[name] = [(r["kind"], r["samples_seen"], r.get("loss"))
                           for r in iterate_jsonl(path)]  # fmt: skip
        elif name == "environment.json" or (path.name == "summary.json" and "train" in path.parts):
            found[name] = "with times"
        else:
            found[name] = path.read_bytes()
    return found


def as_plain(value: object) -> object:
    if isinstance(value, torch.Tensor):
        return value.numpy().tobytes()
    if isinstance(value, dict):
        return {k: as_plain(v) for k, v in value.items()}
    return value


@pytest.mark.slow
def test_a_run_whose_ranks_are_killed_ends_as_one_that_was_left_alone(
    pool: Path, tmp_path: Path, processes: list[subprocess.Popen[str]]
) -> None:
    alone, hurt = tmp_path / "alone", tmp_path / "hurt"
    process = begin(processes, pool, alone)
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said

    process = begin(processes, pool, hurt)
    store = RunStore(hurt / "runs" / "tiny")
    kill(process, hurt, rank=1, restart=0, when=store.state(0).exists)
    half_written = store.state(0).with_name(".last.ckpt.1.00000000.tmp")
    half_written.write_bytes(b"as when killed in the middle of writing")
    kill(
        process, hurt, rank=0, restart=1, when=(store.stage(0, "score") / "bank.safetensors").exists
    )
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    assert "its process is gone" in said  # nobody had to remove the lease

    expected = contents(RunStore(alone / "runs" / "tiny"))
    assert [name for name, what in contents(store).items() if what != expected.get(name)] == []
    assert contents(store).keys() == expected.keys()
    assert not [r for r in range(2) for start in range(3) if rank_process(hurt, r, start)]


TWO_RANKS = """
import torch, torch.distributed as dist
from selffilter import cli
from selffilter.errors import UserError
from selffilter.commands.in_team import with_team

def work(team):
    if team.rank == 1:
        raise {error}
    dist.all_reduce(torch.zeros(1))

cli._run = lambda config, only, **how: with_team("cpu", work)
cli.main()
"""


@pytest.mark.parametrize(
    ("error", "says", "traces"),
    [
        ("UserError('the moon is full')", "selffilter: rank 1: the moon is full", 0),
        ("ValueError('a bug')", "ValueError: a bug", 2),
    ],
)
def test_the_reason_of_one_rank_is_said_while_others_wait_in_a_collective(
    error: str, says: str, traces: int, tmp_path: Path
) -> None:
    (tmp_path / "two.py").write_text(TWO_RANKS.format(error=error))
    (tmp_path / "my.yaml").write_text("pool: {shards: [x]}")
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
            "--max-restarts=1", "two.py", "run", "my.yaml",
        ],
        cwd=tmp_path, env=env, capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 1
    # When it happened, and by the next attempt: which says it again at once, or fails anew.
    assert done.stderr.count(says) == 2, done.stderr
    assert done.stderr.count("in work") == traces
    # The other rank has no story of its own to tell about a connection that broke.
    assert "in all_reduce" not in done.stderr


def test_a_mistake_is_said_twice_and_not_tried_again(
    tmp_path: Path, processes: list[subprocess.Popen[str]]
) -> None:
    (tmp_path / "tiny.yaml").write_text("train: {learning_rat: 1}")
    process = launch(processes, tmp_path, "tiny.yaml")
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert said.count("Did you mean 'train.learning_rate'?") == 2, said
