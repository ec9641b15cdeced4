"""Runs as processes: shared cores, logs, stopping."""

from __future__ import annotations

import os
import time
from pathlib import Path

from selffilter.experiments.processes import Processes, last_words


def test_the_cores_are_shared_out_unless_the_user_has_done_so() -> None:
    cores = os.cpu_count() or 1
    assert Processes(1, {}).environment["OMP_NUM_THREADS"] == str(cores)
    assert Processes(2 * cores, {}).environment["OMP_NUM_THREADS"] == "1"
    assert Processes(1, {"OMP_NUM_THREADS": "3"}).environment["OMP_NUM_THREADS"] == "3"


def test_what_a_run_says_is_added_to_its_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "run.log"
    for _ in range(2):
        running = Processes(1).start(["--version"], log)
        deadline = time.monotonic() + 60
        while running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert running.poll() == 0
    assert log.read_text().count("selffilter ") == 2


def test_a_run_can_be_killed(tmp_path: Path) -> None:
    running = Processes(1).start(["--help"], tmp_path / "run.log")
    running.kill()
    assert running.poll() is not None


def test_the_last_words_of_a_log_are_its_last_lines_that_hold_something(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    assert last_words(log) == ""
    log.write_bytes(b"one\ntwo\n\nthree\xff\n\nfour\n\n")
    assert last_words(log) == "two\nthree�\nfour"
