"""CSV and TensorBoard, read back as their readers do."""

import csv

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from selffilter.config import Config
from selffilter.errors import UserError
from selffilter.store import RunStore
from selffilter.tracking import open as opening
from selffilter.tracking.open import check_trackers, open_trackers


def train(seen, loss):
    return {
        "kind": "train", "round": 0, "stage": "train", "samples_seen": seen, "loss": loss,
        "mfu": None,
    }  # fmt: skip


SUMMARY = {
    "kind": "round_summary", "round": 0, "stage": "select", "samples_seen": 30, "threshold": 0.5,
    "coverage": {"source": 0.9}, "alarms": [], "scores_from": "model",
}  # fmt: skip


def process(root, begin, records, close=True):
    """Track some records as one process of a run does, which may be killed."""
    config = Config()
    config.track.wandb, config.track.also = "disabled", ["csv", "tensorboard"]
    trackers = open_trackers(config, RunStore(root), silent=False, say=pytest.fail)
    trackers.begin(*begin)
    for record in records:
        trackers.log(record)
    if close:
        trackers.close()
    else:  # what has been written to the disk by now
        trackers.end_round(None)


def rows_of(root):
    with (root / "csv" / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if v != ""} for row in csv.DictReader(file)]


def curves_of(root):
    events = EventAccumulator(str(root / "tensorboard"))
    events.Reload()
    tags = events.Tags()["scalars"]
    return {tag: [(e.step, round(e.value, 4)) for e in events.Scalars(tag)] for tag in tags}


def test_both_have_every_number_once_also_where_a_run_went_on(tmp_path):
    process(
        tmp_path, (0, "train", 0), [train(10, 3.0), train(20, 2.5), train(30, 9.0)], close=False
    )
    # Killed; the last checkpoint is at 20.
    process(tmp_path, (0, "train", 20), [train(30, 2.0), SUMMARY])
    assert rows_of(tmp_path) == [
        {"step": "10", "round": "0", "train/loss": "3.0"},
        {"step": "20", "round": "0", "train/loss": "2.5"},
        {"step": "30", "round": "0", "train/loss": "2.0"},
        {
            "step": "30", "round": "0", "round_summary/threshold": "0.5",
            "round_summary/coverage/source": "0.9", "round_summary/alarms": "0",
        },
    ]  # fmt: skip
    curves = curves_of(tmp_path)
    assert curves["train/loss"] == [(10, 3.0), (20, 2.5), (30, 2.0)]
    assert curves["round_summary/coverage/source"] == [(30, 0.9)]
    assert "train/mfu" not in curves and "round_summary/scores_from" not in curves


def test_without_tensorboard_it_is_said_before_anything_is_done(monkeypatch):
    config = Config()
    check_trackers(config)
    config.track.also = ["tensorboard"]
    check_trackers(config)
    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'selffilter\[tensorboard\]'"):
        check_trackers(config)


def test_a_silent_rank_tracks_nothing(tmp_path):
    config = Config()
    config.track.also = ["csv"]
    trackers = open_trackers(config, RunStore(tmp_path), silent=True, say=pytest.fail)
    trackers.begin(0, "train", 0)
    trackers.log(train(10, 1.0))
    trackers.close()
    assert list(tmp_path.iterdir()) == []
