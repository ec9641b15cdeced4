import json
import math

import pytest

from selffilter.store import RunStore, iterate_jsonl
from selffilter.tracking.trackers import (
    Dispensable,
    JsonlTracker,
    Trackers,
    last_value,
    numbers_of,
)


def record(round_, stage, samples_seen, **values):
    fields = {"kind": stage, "round": round_, "stage": stage, "samples_seen": samples_seen}
    return fields | values


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path)


def logged(store, round_):
    path = store.round(round_) / "metrics.jsonl"
    return [(r["stage"], r["samples_seen"]) for r in iterate_jsonl(path)]


def test_each_round_has_its_records_and_all_are_gathered_in_order(store):
    tracker = JsonlTracker(store)
    tracker.log(record(1, "train", 30))
    tracker.log(record(0, "train", 10))
    tracker.log(record(0, "select", 20))
    tracker.close()
    together = list(iterate_jsonl(store.root / "metrics.jsonl"))
    assert [(r["round"], r["samples_seen"]) for r in together] == [(0, 10), (0, 20), (1, 30)]


def test_what_was_logged_after_the_checkpoint_is_taken_back(store):
    tracker = JsonlTracker(store)
    for samples in (10, 20, 30):
        tracker.log(record(0, "train", samples))
    JsonlTracker(store).begin(0, "train", 20)
    assert logged(store, 0) == [("train", 10), ("train", 20)]


def test_an_interrupted_round_has_the_records_of_an_uninterrupted_one(store, tmp_path):
    def run(target, interrupted):
        tracker = JsonlTracker(target)
        tracker.begin(0, "train", 0)
        for samples in (10, 20, 30):
            tracker.log(record(0, "train", samples))
        if interrupted:
            tracker = JsonlTracker(target)
            tracker.begin(0, "train", 20)
            tracker.log(record(0, "train", 30))
        for stage in ("evaluate", "score", "select"):
            tracker.begin(0, stage, 30)
            tracker.log(record(0, stage, 30))
            if interrupted:
                tracker = JsonlTracker(target)
                tracker.begin(0, stage, 30)
                tracker.log(record(0, stage, 30))
        tracker.close()
        return (target.root / "metrics.jsonl").read_bytes()

    assert run(store, True) == run(RunStore(tmp_path / "other"), False)


def test_a_stage_that_begins_again_keeps_those_before_it(store):
    tracker = JsonlTracker(store)
    for stage in ("train", "evaluate", "score", "select"):
        tracker.log(record(0, stage, 30))
    tracker.begin(0, "score", 30)
    assert logged(store, 0) == [("train", 30), ("evaluate", 30)]


def test_a_round_that_begins_afresh_has_no_records(store):
    tracker = JsonlTracker(store)
    tracker.begin(0, "train", 0)
    tracker.log(record(0, "train", 10))
    tracker.log(record(1, "train", 20))
    tracker.begin(0, "train", 0)
    assert logged(store, 0) == []
    assert logged(store, 1) == [("train", 20)]


def test_what_is_undefined_is_null_so_that_every_line_is_json(store):
    tracker = JsonlTracker(store)
    tracker.log(record(0, "train", 10, loss=math.nan, best=math.inf, note="nan", step=3))
    line = (store.round(0) / "metrics.jsonl").read_text()

    def refuse(word):
        pytest.fail(f"{word} is not JSON")

    values = json.loads(line, parse_constant=refuse)
    assert (values["loss"], values["best"], values["note"], values["step"]) == (
        None, None, "nan", 3,
    )  # fmt: skip


def test_the_last_value_of_a_key(store):
    tracker = JsonlTracker(store)
    path = store.round(0) / "metrics.jsonl"
    assert math.isnan(last_value(path, "train", "loss"))
    tracker.log(record(0, "train", 10, loss=3.0))
    tracker.log(record(0, "train", 20, loss=2.0))
    tracker.log(record(0, "select", 20, loss=9.0))
    assert last_value(path, "train", "loss") == 2.0
    assert math.isnan(last_value(path, "evaluate", "loss"))
    tracker.log(record(0, "train", 30, loss=math.nan))
    assert math.isnan(last_value(path, "train", "loss"))


def test_several_trackers_are_told_the_same():
    class Listener:
        def __init__(self):
            self.heard = []

        def log(self, record):
            self.heard.append(("log", record))

        def begin(self, round_, stage, samples_seen):
            self.heard.append(("begin", round_, stage, samples_seen))

        def end_round(self, shown):
            self.heard.append(("end_round", shown))

        def end_run(self, output):
            self.heard.append(("end_run", output))

        def close(self):
            self.heard.append(("close",))

    listeners = [Listener(), Listener()]
    both = Trackers(listener for listener in listeners)
    both.begin(1, "train", 5)
    both.log({"a": 1})
    both.end_round("shown")
    both.end_run("output")
    both.close()
    for listener in listeners:
        assert listener.heard == [
            ("begin", 1, "train", 5), ("log", {"a": 1}), ("end_round", "shown"),
            ("end_run", "output"), ("close",),
        ]  # fmt: skip


@pytest.mark.parametrize("call", ["log", "begin", "end_round", "end_run", "close"])
def test_a_tracker_that_fails_ends_no_run_and_is_left_alone(call):
    class Failing:
        def __getattr__(self, name):
            def answer(*_):
                called.append(name)
                if name == call:
                    raise ConnectionError("no route\nto the host")

            return answer

    called, said = [], []
    tracker = Dispensable(Failing(), "W&B", said.append)
    for _ in range(2):
        tracker.begin(0, "train", 0)
        tracker.log({})
        tracker.end_round(None)
        tracker.end_run(None)
        tracker.close()
    assert called.count(call) == 1 and called[-1] == call
    assert said == ["W&B fails (ConnectionError: no route); the run goes on without it"]


def test_numbers_of_a_record_are_flat_finite_and_without_axes():
    given = record(
        0, "select", 9, a=1, b={"c": 0.5, "d": {"e": True}}, f="text", g=None, h=math.nan
    )
    given |= {"alarms": [{}, {}], "vanishing": {"script": [{}]}, "also": ["x"]}
    assert numbers_of(given) == {
        "a": 1, "b/c": 0.5, "b/d/e": True, "alarms": 2, "vanishing/script": 1,
    }  # fmt: skip
