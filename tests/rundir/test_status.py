"""Where a run stands, read from its directory."""

import json
import os
import re
import socket
import time

import pytest

from selffilter.config import load_config, to_yaml
from selffilter.errors import UserError
from selffilter.rundir import status_command
from selffilter.rundir.status import read_status
from selffilter.rundir.status_command import show_status
from selffilter.store import RunStore, write_json, write_jsonl, write_text

ALARM = {"name": "retention", "sentence": "Only 0.1 of the confident rows stay."}


@pytest.fixture
def store(tmp_path):
    """A run of two rounds of 100 samples, the first of them done, the second training."""
    store = RunStore(tmp_path / "run")
    config = load_config(
        None,
        [
            "pool.shards=[pool]", "rounds.samples_seen=200", "rounds.count=2",
            "rounds.bootstrap_fraction=0.5", "train.global_batch_size=10",
        ],
    )  # fmt: skip
    write_text(store.config_path, to_yaml(config))
    store.mark_done(0, "train", {"samples_seen": 100, "loss": 3.0})
    store.mark_done(0, "score", {})
    store.mark_done(0, "select", {"selected": 50, "alarms": [ALARM]})
    train(store, 0, [50, 100])
    train(store, 1, [110, 120])
    return store


def train(store, round_, seen):
    axes = {"kind": "train", "round": round_, "stage": "train", "samples_per_s": 4.0}
    records = [axes | {"samples_seen": s, "loss": 2.0, "data_wait": 0.1} for s in seen]
    write_jsonl(store.round(round_) / "metrics.jsonl", records)


def held(store, age_s=3.0, host=None, pid=None):
    write_json(
        store.root / "lease.json",
        {
            "token": "t", "host": host or socket.gethostname(), "pid": pid or os.getpid(),
            "heartbeat": time.time() - age_s,
        },
    )  # fmt: skip


def shows(store):
    """Let the run show progress."""
    record = {
        "title": "round 1  train", "done": 20, "total": 100, "per_second": 4.0,
        "seconds_left": 20.0, "note": "loss 2.000", "loss": 2.0, "time": time.time(),
    }  # fmt: skip
    write_json(store.root / "progress.json", record)


def finish(store):
    for stage in ("train", "score", "select"):
        store.mark_done(1, stage, {"samples_seen": 200} if stage == "train" else {})
    write_json(store.final / "compute.json", {})
    (store.root / "lease.json").unlink(missing_ok=True)


def test_a_run_that_is_worked_on(store):
    held(store)
    shows(store)
    found = read_status(store.root)
    assert (found.state, found.samples_seen, found.samples_total) == ("running", 120, 200)
    assert [r["round"] for r in found.rounds] == [0] and found.rounds_total == 2
    assert found.next == {"round": 1, "stage": "train"}
    assert found.progress["done"] == 20 and 0 <= found.progress["age_s"] < 60
    assert found.training == {
        "loss": 2.0, "samples_per_s": 4.0, "data_wait": 0.1, "seconds_left": 20.0,
    }  # fmt: skip
    assert found.holder["pid"] == os.getpid() and 2 < found.holder["heartbeat_age_s"] < 60
    assert found.alarms == [{"round": 0} | ALARM]


def test_a_run_that_was_stopped_shows_no_progress(store):
    shows(store)  # left by a process that was killed
    found = read_status(store.root)
    assert (found.state, found.progress, found.holder) == ("stopped", None, None)


@pytest.mark.parametrize(
    "lease",
    [{"pid": 2**22 + 1}, {"host": "elsewhere", "age_s": 500.0}, {"age_s": 500.0}],
)
def test_a_process_that_is_gone_is_not_taken_for_one_that_works(store, lease):
    held(store, **lease)
    shows(store)
    found = read_status(store.root)
    assert (found.state, found.progress) == ("silent", None)


def test_a_process_elsewhere_counts_while_its_heart_beats(store):
    held(store, host="elsewhere", pid=2**22 + 1)
    assert read_status(store.root).state == "running"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"time": null}'])
def test_files_that_are_just_being_written_are_no_mistake(store, content):
    (store.root / "lease.json").write_text(content)
    (store.root / "progress.json").write_text(content)
    found = read_status(store.root)
    assert (found.state, found.progress) == ("running", None)


def test_training_counts_from_the_last_round_that_has_some(store):
    write_jsonl(store.round(1) / "metrics.jsonl", [])
    found = read_status(store.root)
    assert found.samples_seen == 100 and found.training["seconds_left"] == 25.0


def test_a_run_that_has_only_begun(tmp_path):
    store = RunStore(tmp_path)
    with pytest.raises(UserError, match="no run directory"):
        read_status(tmp_path)
    write_text(store.config_path, to_yaml(load_config(None, ["pool.shards=[pool]"])))
    found = read_status(tmp_path)
    assert (found.state, found.samples_seen, found.training) == ("stopped", 0, None)
    assert found.next == {"round": 0, "stage": "train"}


# --- what is printed ------------------------------------------------------------------------------


def test_once(store, capsys):
    held(store)
    shows(store)
    show_status(store.root)
    said = capsys.readouterr().out
    assert "120 of 200 samples seen" in said
    assert "round 0  guard: Only 0.1 of the confident rows stay." in said
    assert "round 1  train  20/100  4/s  0:20 left  loss 2.000" in said
    assert "training of all rounds: 0:20 left at 4 samples/s" in said
    assert re.search(rf"held by process {os.getpid()} on \S+, heartbeat \d+ s ago", said)


def test_a_run_that_nobody_works_on_says_how_it_goes_on(store, capsys):
    show_status(store.root)
    said = capsys.readouterr().out
    assert "next: train of round 1" in said
    assert f"nobody is working on it:  selffilter run {store.config_path}" in said
    held(store, age_s=500.0)
    show_status(store.root)
    assert "is gone or does not answer (last heartbeat 500 s ago)" in capsys.readouterr().out


def watched(store, monkeypatch, steps, **asked):
    """Watch a run that goes on while the watcher sleeps; returns how long it slept."""
    slept, todo = [], iter(steps)

    def sleep(seconds):
        slept.append(seconds)
        next(todo)()

    monkeypatch.setattr(status_command.time, "sleep", sleep)
    show_status(store.root, watch=True, **asked)
    return slept


def test_watching_ends_with_the_run(store, monkeypatch, capsys):
    held(store)
    shows(store)
    slept = watched(store, monkeypatch, [lambda: None, lambda: finish(store)], every_s=7)
    assert slept == [7, 7]
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "finished" and said.count("finished") == 1
    rows = [line for line in said if line.split()[:2] in (["0", "100"], ["1", "200"])]
    assert len(rows) == 2  # each round once
    assert sum("samples  loss" in line for line in said) == 1


def test_watching_a_run_that_is_stopped_says_so(store, monkeypatch, capsys):
    held(store)
    watched(store, monkeypatch, [(store.root / "lease.json").unlink])
    assert "nobody is working on it" in capsys.readouterr().out.splitlines()[-1]


def test_watching_what_does_not_run_does_not_wait(store, monkeypatch):
    assert watched(store, monkeypatch, []) == []


def test_json_is_a_line_a_look(store, monkeypatch, capsys):
    held(store)
    shows(store)
    watched(store, monkeypatch, [lambda: finish(store)], as_json=True)
    first, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["state"], last["state"]) == ("running", "finished")
    assert first["progress"]["loss"] == 2.0 and last["next"] is None
    assert len(last["rounds"]) == 2


def test_on_a_terminal_it_is_drawn_in_place(store, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    held(store)
    shows(store)
    watched(store, monkeypatch, [lambda: finish(store)])
    said = capsys.readouterr().out
    assert "finished" in said and "\x1b[" in said


def test_an_interval_must_be_above_0(store):
    with pytest.raises(UserError, match="--every 0"):
        show_status(store.root, watch=True, every_s=0)
