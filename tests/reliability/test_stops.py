"""Asked to stop, killed while it saves, started twice: nothing is lost and somebody says why."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest
from starting import Start

from benchmarks.reliability.what_is_left import differences, what_is_left
from selffilter.store import RunStore, iterate_jsonl, read_json
from selffilter.training.state import TrainState

GO_ON = "The same command goes on:  selffilter run"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "life").mkdir()
    return tmp_path / "life"


def store_of(folder: Path) -> RunStore:
    return RunStore(folder / "runs" / "small")


def no_traces(store: RunStore) -> bool:
    """Whether a process ended in good order: no lease, nothing half written."""
    return not (store.root / "lease.json").exists() and not list(store.root.rglob(".*.tmp"))


def ends_like(whole: dict[str, object], config: Path, folder: Path) -> None:
    """The same command, and what is there in the end is what an unstopped run leaves."""
    start = Start(folder, "run", str(config))
    assert start.end() == 0, start.said
    assert differences(whole, what_is_left(folder)) == []


# --- in the process that is stopped ---------------------------------------------------------------


def slow_third_step() -> None:
    """A step that takes longer than anybody waits; a file says that it has begun."""
    from selffilter.training.module import ClipTraining

    step = ClipTraining.training_step

    def slow(module, batch, number):  # type: ignore[no-untyped-def]
        if module.step == 3:
            Path("in-the-step").touch()
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline and not Path("go-on").exists():
                time.sleep(0.01)
        return step(module, batch, number)

    ClipTraining.training_step = slow  # type: ignore[method-assign]


def usr1_while_scoring() -> None:
    from selffilter.scoring import pool_pass

    write = pool_pass.write_table

    def asked(path, table):  # type: ignore[no-untyped-def]
        write(path, table)
        if path.name == "00001.parquet":
            os.kill(os.getpid(), signal.SIGUSR1)

    pool_pass.write_table = asked


def term_while_selecting() -> None:
    from selffilter.stages import select

    write = select.write_selection

    def asked(*args):  # type: ignore[no-untyped-def]
        os.kill(os.getpid(), signal.SIGTERM)
        write(*args)

    select.write_selection = asked  # type: ignore[assignment]


# --- asked to stop --------------------------------------------------------------------------------


def test_a_first_interrupt_finishes_the_step_and_says_how_to_go_on(
    whole: dict[str, object], config: Path, folder: Path
) -> None:
    start = Start(folder, "run", str(config), first=slow_third_step)
    start.wait_for((folder / "in-the-step").exists)
    start.signal(signal.SIGINT)
    start.wait_for(lambda: "SIGINT: finishing and saving what is begun" in start.said)
    (folder / "go-on").touch()
    assert start.end() == 75, start.said
    assert f"stopped and saved. {GO_ON} {config}" in start.said
    store = store_of(folder)
    assert no_traces(store)
    assert TrainState.load(store.state(0)).step == 4  # with the step that was under way
    for left in ("in-the-step", "go-on"):
        (folder / left).unlink()
    ends_like(whole, config, folder)


def test_a_second_interrupt_ends_at_once_and_the_last_checkpoint_counts(
    whole: dict[str, object], config: Path, folder: Path
) -> None:
    start = Start(folder, "run", str(config), first=slow_third_step)
    start.wait_for((folder / "in-the-step").exists)
    start.signal(signal.SIGINT)
    start.wait_for(lambda: "SIGINT: finishing" in start.said)
    start.signal(signal.SIGINT)
    assert start.end() == 130, start.said
    assert "stopped at once; the same command goes on from what was saved last" in start.said
    assert "Traceback" not in start.said
    store = store_of(folder)
    assert no_traces(store)
    assert TrainState.load(store.state(0)).step == 2
    (folder / "in-the-step").unlink()
    ends_like(whole, config, folder)


@pytest.mark.parametrize(
    ("first", "done"),
    [(usr1_while_scoring, ["train"]), (term_while_selecting, ["train", "score", "select"])],
)
def test_a_batch_system_that_asks_in_another_stage_gets_75_and_the_run_goes_on(
    first, done: list[str], whole: dict[str, object], config: Path, folder: Path
) -> None:  # type: ignore[no-untyped-def]
    start = Start(folder, "run", str(config), first=first)
    assert start.end() == 75, start.said
    assert f"stopped and saved. {GO_ON} {config}" in start.said
    store = store_of(folder)
    assert no_traces(store)
    assert [s for s in ("train", "score", "select") if store.is_done(0, s)] == done
    ends_like(whole, config, folder)


def test_a_step_longer_than_the_deadline_is_killed_and_costs_what_came_after_the_checkpoint(
    whole: dict[str, object], config: Path, folder: Path
) -> None:
    start = Start(folder, "run", str(config), first=slow_third_step)
    start.wait_for((folder / "in-the-step").exists)
    start.signal(signal.SIGTERM)
    start.wait_for(lambda: "SIGTERM: finishing" in start.said)
    start.signal(signal.SIGKILL)  # the deadline
    assert start.end() == -signal.SIGKILL
    assert TrainState.load(store_of(folder).state(0)).step == 2
    (folder / "in-the-step").unlink()
    ends_like(whole, config, folder)


# --- started twice --------------------------------------------------------------------------------


def test_a_second_process_is_refused_and_the_lease_of_one_that_is_gone_taken_over(
    whole: dict[str, object], config: Path, folder: Path
) -> None:
    first = Start(folder, "run", str(config), first=slow_third_step)
    first.wait_for((folder / "in-the-step").exists)
    before = what_is_left(folder)

    second = Start(folder, "run", str(config))
    assert second.end() == 2, second.said
    who = f"process {first.pid} on {socket.gethostname()} (heartbeat "
    assert f"selffilter: runs/small is in use by {who}" in second.said
    assert "Traceback" not in second.said
    alike = what_is_left(folder)
    for moving in ("lease.json", "progress.json"):
        alike.pop(f"runs/small/{moving}", None)
        before.pop(f"runs/small/{moving}", None)
    assert differences(before, alike) == []
    assert read_json(folder / "runs" / "small" / "lease.json")["pid"] == first.pid

    first.signal(signal.SIGKILL)
    assert first.end() == -signal.SIGKILL
    (folder / "in-the-step").unlink()
    third = Start(folder, "run", str(config))
    assert third.end() == 0, third.said
    taken = f"taking over the lease of process {first.pid} on {socket.gethostname()}"
    assert f"{taken}: its process is gone; going on from what it saved" in third.said
    assert differences(whole, what_is_left(folder)) == []
    assert [r["samples_seen"] for r in iterate_jsonl(store_of(folder).root / "metrics.jsonl")
            if r["kind"] == "train"] == list(range(16, 193, 16))  # fmt: skip


# --- killed at the end of a round -----------------------------------------------------------------


def gone_after_the_last_checkpoint() -> None:
    from selffilter.training.state import TrainState

    save = TrainState.save

    def saved(state, path, keep=1):  # type: ignore[no-untyped-def]
        save(state, path, keep)
        if state.step == 5:
            os._exit(9)

    TrainState.save = saved  # type: ignore[method-assign]


def test_the_last_steps_of_a_round_are_reported_before_they_are_saved(
    config: Path, folder: Path
) -> None:
    seldom = ("train.log_every_steps=100", "train.checkpoint_every_steps=5", "--only", "train")
    start = Start(folder, "run", str(config), *seldom, first=gone_after_the_last_checkpoint)
    assert start.end() == 9, start.said
    start = Start(folder, "run", str(config), *seldom)
    assert start.end() == 0, start.said
    store = store_of(folder)
    records = iterate_jsonl(store.round(0) / "metrics.jsonl")
    assert [r["samples_seen"] for r in records if r["kind"] == "train"] == [80]
    assert store.summary(0, "train")["loss"] > 0
