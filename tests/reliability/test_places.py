"""Disks that are full or take nothing, and checkpoints that are damaged."""

from __future__ import annotations

import os
import re
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from starting import Start

from benchmarks.reliability.what_is_left import differences, what_is_left
from selffilter.store import RunStore
from selffilter.training.state import saved_by_step


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "life" / "runs").mkdir(parents=True)
    return tmp_path / "life"


class Small:
    """A file system of its own for the runs, of a size that can be changed."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def set(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self._place)], check=True)

    def is_possible(self, size: str) -> bool:
        words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(self._place)]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0


@pytest.fixture
def small(folder: Path) -> Iterator[Small]:
    disk = Small(folder / "runs")
    if os.geteuid() or not disk.is_possible("4m"):
        pytest.skip("needs the right to mount a file system")
    yield disk
    subprocess.run(["umount", "--lazy", str(folder / "runs")], check=True)


def whole_files(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and not p.name.endswith(".tmp")]


# --- full -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mb", [4, 24])
def test_a_full_disk_is_one_sentence_and_with_room_the_same_command_goes_on(
    mb: int, small: Small, whole: dict[str, object], config: Path, folder: Path
) -> None:
    small.set(f"size={mb}m")
    start = Start(folder, "run", str(config))
    assert start.end() == 2, start.said
    assert "Traceback" not in start.said
    found = re.search(
        r"^selffilter: cannot write: (\S+): No space left on device \(([\d.]+) MB free in (\S+), "
        r"too little for it\)\. "
        r"What was saved before is whole\. Make room, or choose another place; then the same "
        r"command goes on\.$",
        start.said,
        re.MULTILINE,
    )
    assert found, start.said
    written = folder / found[1]
    assert written.is_relative_to(folder / "runs" / "small") and not written.name.startswith(".")
    assert float(found[2]) <= 1.05 * mb and Path(found[3]) in written.parents
    assert not list((folder / "runs").rglob(".*.tmp"))
    assert not (folder / "runs" / "small" / "lease.json").exists()
    # Whole is what is there: whatever is damaged would show in the end.
    small.set("size=200m")
    start = Start(folder, "run", str(config))
    assert start.end() == 0, start.said
    assert differences(whole, what_is_left(folder)) == []


def only_small_files() -> None:
    """As ``ulimit -f``: what a process without rights can have of a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))


def test_a_checkpoint_that_cannot_be_written_is_named_and_the_one_before_stays(
    whole: dict[str, object], config: Path, folder: Path
) -> None:
    start = Start(folder, "run", str(config), first=only_small_files)
    assert start.end() == 2, start.said
    assert "Traceback" not in start.said
    state = "runs/small/rounds/000/train/last.ckpt"
    assert f"cannot write: {state}: File too large. What was saved" in start.said
    assert not list(folder.rglob(".*.tmp"))
    start = Start(folder, "run", str(config))
    assert start.end() == 0, start.said
    assert differences(whole, what_is_left(folder)) == []


# --- read-only ------------------------------------------------------------------------------------


@pytest.fixture
def read_only(folder: Path) -> Iterator[None]:
    """The run directory takes nothing: for root it has to be the file system that refuses."""
    runs = folder / "runs"
    if os.geteuid():
        runs.chmod(0o555)
        yield
        runs.chmod(0o755)
        return
    disk = Small(runs)
    if not disk.is_possible("1m"):
        pytest.skip("needs the right to mount a file system")
    disk.set("ro")
    yield
    subprocess.run(["umount", "--lazy", str(runs)], check=True)


def test_a_place_that_takes_nothing_is_one_sentence(
    read_only: None, config: Path, folder: Path
) -> None:
    start = Start(folder, "run", str(config))
    assert start.end() == 2, start.said
    assert re.search(
        r"^selffilter: cannot write: runs/small: .+\. What was saved before is whole\. Make it "
        r"writable, or choose another place; then the same command goes on\.$",
        start.said,
        re.MULTILINE,
    ), start.said
    assert "Traceback" not in start.said


# --- damaged --------------------------------------------------------------------------------------


def stop_at_step_five() -> None:
    """A process that is gone after the second checkpoint."""
    from selffilter.stages.context import RunContext

    log = RunContext.log

    def die(context, kind, round_, stage, step, values):  # type: ignore[no-untyped-def]
        log(context, kind, round_, stage, step, values)
        if kind == "train" and step == 5:
            os._exit(9)

    RunContext.log = die  # type: ignore[method-assign]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(("hurt", "every"), [(flip, False), (cut, True)])
def test_a_damaged_checkpoint_falls_back_to_the_one_before_or_to_the_rounds_beginning(
    hurt, every: bool, whole: dict[str, object], config: Path, folder: Path
) -> None:  # type: ignore[no-untyped-def]
    start = Start(folder, "run", str(config), first=stop_at_step_five)
    assert start.end() == 9, start.said
    last = RunStore(folder / "runs" / "small").state(0)
    kept = saved_by_step(last)
    assert [p.name for p in kept] == ["step-0000000002.ckpt", "step-0000000004.ckpt"]
    for path in kept if every else kept[-1:]:  # last.ckpt is the newest of them, the same file
        hurt(path)

    start = Start(folder, "run", str(config))
    assert start.end() == 0, start.said
    damaged = [last, *(reversed(kept) if every else kept[-1:])]
    for path in damaged:
        name = path.relative_to(folder)
        assert re.search(
            rf"{name} is damaged \(.+\): set aside as {path.name}\.damaged", start.said
        )
        path.with_name(f"{path.name}.damaged").unlink()
    where = "the beginning of round 0 (step 0)" if every else "step-0000000002.ckpt"
    assert f"going on from {where}: what was trained since is trained again" in start.said
    assert differences(whole, what_is_left(folder)) == []


def test_a_damaged_state_of_the_round_before_is_named_with_what_to_do(
    whole: dict[str, object], config: Path, folder: Path
) -> None:
    for only in ("train", "score", "select"):
        # In round 2, for round 1 begins from fresh weights.
        start = Start(folder, "run", str(config), "--only", only)
        assert start.end() == 0, start.said
    for only in ("train", "score", "select"):
        start = Start(folder, "run", str(config), "--only", only)
        assert start.end() == 0, start.said
    store = RunStore(folder / "runs" / "small")
    flip(store.state(1))
    start = Start(folder, "run", str(config))
    assert start.end() == 2, start.said
    state, round_ = (p.relative_to(folder) for p in (store.state(1), store.round(1)))
    assert f"{state}, which round 2 goes on from, is damaged (the checksum of" in start.said
    assert f"or remove {round_}, and the same command trains, scores and selects" in start.said
    for path in sorted(store.round(1).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    store.round(1).rmdir()
    start = Start(folder, "run", str(config))
    assert start.end() == 0, start.said
    assert differences(whole, what_is_left(folder)) == []
