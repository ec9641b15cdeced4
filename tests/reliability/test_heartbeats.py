"""What `selffilter status` says of a run that is alive and gets nowhere, or dead."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

import pytest
from test_end_to_end import config_of, home

from selffilter.config import to_yaml
from selffilter.rundir.status_command import show_status
from selffilter.store import LEASE_STALE_S, RunStore

__all__ = ["home"]


@pytest.fixture
def store(home: Path, tmp_path: Path) -> RunStore:
    """A run that this process holds."""
    config = config_of(home, tmp_path, "run")
    store = RunStore(tmp_path / "run")
    store.root.mkdir()
    store.config_path.write_text(to_yaml(config))
    return store


def beat(store: RunStore, age_s: float) -> None:
    holder = {"token": "x", "host": socket.gethostname(), "pid": os.getpid()}
    (store.root / "lease.json").write_text(json.dumps({**holder, "heartbeat": time.time() - age_s}))


def progress(store: RunStore, age_s: float) -> None:
    record = {"title": "round 1  select", "note": "", "time": time.time() - age_s}
    (store.root / "progress.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("progress_age_s", "said"),
    [(3.0, "round 1  select\n"), (15 * 60.0, "round 1  select  (nothing new for 15:0")],
)
def test_a_heartbeat_and_the_age_of_the_last_progress_are_told_apart(
    progress_age_s: float, said: str, store: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    beat(store, 4.0)
    progress(store, progress_age_s)
    show_status(store.root)
    shown = capsys.readouterr().out
    assert said in shown
    assert f"held by process {os.getpid()} on {socket.gethostname()}, heartbeat 4 s ago" in shown


def test_a_heartbeat_that_has_stopped_is_told_with_what_to_do(
    store: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    beat(store, LEASE_STALE_S + 10)
    progress(store, LEASE_STALE_S + 10)
    show_status(store.root)
    shown = capsys.readouterr().out
    assert "next: train of round 0" in shown
    assert "is gone or does not answer (last heartbeat 130 s ago):  selffilter run" in shown
