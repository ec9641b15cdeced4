"""Killed again and again, at random and while it writes, a run ends as one that was left alone.

The short form of ``benchmarks/reliability/kill_anywhere.py``; the figures of the long one stand in
docs/reliability.md.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.reliability.fault_points import INSTANTS, Event, Now, Watch
from benchmarks.reliability.kill_anywhere import table
from benchmarks.reliability.what_is_left import differences, kind_of, what_is_left
from selffilter.store import append_line, write_atomically

ROOT = Path(__file__).resolve().parents[2]
KILLS = 8


def test_a_run_that_is_killed_again_and_again_ends_as_one_that_was_left_alone(
    tmp_path: Path,
) -> None:
    script = ROOT / "benchmarks" / "reliability" / "kill_anywhere.py"
    done = subprocess.run(
        [sys.executable, str(script), "--kills", str(KILLS), "--seed", "3", "--out", str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert (
        report["kills"] == KILLS == report["at_random_instants"] + report["at_instants_of_writing"]
    )
    assert report["at_instants_of_writing"] > 0
    assert (report["runs_that_differ"], report["failures"]) == (0, [])
    assert report["files_compared"] > 100


# --- that it can fail -----------------------------------------------------------------------------


def killed_at(target: Event, folder: Path) -> Event:
    """Write a file and a line in a process that is to die at an instant; return its last event."""
    now = Now()
    pid = os.fork()
    if not pid:
        os.chdir(folder)
        watch = Watch(now, target, None)
        watch.install()
        write_atomically(Path("file"), lambda file: file.write(b"0123456789"))
        append_line(Path("lines"), "abcdefghi")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    return now.read()


@pytest.mark.parametrize(
    ("name", "instant", "left"),
    [
        ("file", "created, empty", {".tmp": b""}),
        ("file", "half written", {".tmp": b"01234"}),
        ("file", "written, not synced", {".tmp": b"0123456789"}),
        ("file", "synced, not renamed", {".tmp": b"0123456789"}),
        ("file", "renamed", {"": b"0123456789"}),
        ("lines", "appending", {"": b""}),
        ("lines", "half a line appended", {"": b"abcde"}),
    ],
)
def test_an_instant_of_writing_leaves_what_a_kill_there_leaves(
    name: str, instant: str, left: dict[str, bytes], tmp_path: Path
) -> None:
    assert instant in INSTANTS
    target = Event("opening", name, instant)
    assert killed_at(target, tmp_path) == target
    found = {p.suffix: p.read_bytes() for p in tmp_path.iterdir() if name in p.name}
    assert found == left


def test_what_differs_or_is_left_over_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "summary.json").write_text('{"loss": 1.5, "step_s": 0.1}')
    before = what_is_left(tmp_path)
    (tmp_path / "summary.json").write_text('{"loss": 1.5, "step_s": 0.2}')
    assert differences(before, what_is_left(tmp_path)) == []
    (tmp_path / "summary.json").write_text('{"loss": 1.6, "step_s": 0.1}')
    (tmp_path / "a").unlink()
    (tmp_path / ".b.1.00000000.tmp").write_bytes(b"")
    assert differences(before, what_is_left(tmp_path)) == [
        "missing: a", "left over: .b.1.00000000.tmp", "differs: summary.json",
    ]  # fmt: skip


def test_kills_are_counted_by_kind_of_file_and_instant() -> None:
    kills = [
        {"stage": "score", "file": f"rounds/00{r}/scores/0000{r}.parquet", "instant": "renamed"}
        for r in range(3)
    ]
    lines = table([*kills, {"stage": "beginning", "file": "", "instant": ""}]).splitlines()
    assert lines[0] == "| stage | last touched file | – | renamed | all |"
    assert lines[2:] == [
        "| beginning | `(no write yet)` | 1 |  | 1 |",
        "| score | `rounds/RRR/scores/SSSSS.parquet` |  | 3 | 3 |",
    ]
    assert kind_of("x/step-0000000004.ckpt") == "x/step-S.ckpt"
