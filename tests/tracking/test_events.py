"""What `selffilter run --json` writes."""

import io
import json
import math

import pytest

from selffilter.errors import UserError
from selffilter.tracking import events as module
from selffilter.tracking.events import JsonScreen


@pytest.fixture
def screen(monkeypatch):
    """A screen, what it has written, and its clock."""
    now, out = [100.0], io.StringIO()
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    def refuse(word):
        pytest.fail(f"{word} is not JSON")

    def written():
        lines = [json.loads(line, parse_constant=refuse) for line in out.getvalue().splitlines()]
        for line in lines:
            assert line.pop("time") > 1e9
        return lines

    return JsonScreen(out), written, now


def test_every_event_is_a_line(screen):
    shown, written, _ = screen
    shown.begin_stage(1, "train", 640)
    shown.say("\na note\n")
    shown.doing("round 1  select", "chooses")
    shown.round_row({"round": 1, "loss": math.nan, "coverage": {"source": math.inf}})
    assert written() == [
        {"event": "stage", "round": 1, "stage": "train", "samples_seen": 640},
        {"event": "message", "text": "a note"},
        {"event": "progress", "title": "round 1  select", "note": "chooses"},
        {"event": "round", "round": 1, "loss": None, "coverage": {"source": None}},
    ]


def test_progress_comes_at_the_beginning_every_five_seconds_and_at_the_end(screen):
    shown, written, now = screen
    with shown.bar("train", 1000, done=400) as bar:
        for seconds in (2, 2, 2):
            now[0] += seconds
            bar.advance(60, "loss 3.0", {"loss": 3.0, "data_wait": math.nan})
        now[0] += 1
        bar.advance(420)
    first, middle, last = written()
    assert (first["done"], first["seconds_left"], first["per_second"]) == (400, None, 0.0)
    # Rate and time left count what this process did: 180 in 6 s.
    assert middle == {
        "event": "progress", "title": "train", "done": 580, "total": 1000, "per_second": 30.0,
        "seconds_left": 14.0, "note": "loss 3.0", "loss": 3.0, "data_wait": None,
    }  # fmt: skip
    assert (last["done"], last["seconds_left"], last["loss"]) == (1000, 0.0, 3.0)


def test_the_end_says_the_exit_code(screen, tmp_path):
    shown, written, _ = screen
    with shown.until_end(tmp_path):
        pass
    with pytest.raises(UserError), shown.until_end(tmp_path):
        raise UserError("no such pool")
    assert written() == [
        {"event": "end", "code": 0, "message": "", "run_dir": str(tmp_path)},
        {"event": "end", "code": 2, "message": "no such pool", "run_dir": str(tmp_path)},
    ]
