"""``progress.json``: what a run is doing, for those who look from elsewhere."""

import json

import pytest

from selffilter.tracking import progress_file
from selffilter.tracking.console import Screen


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress_file.time, "monotonic", lambda: now[0])
    return now


def test_what_a_screen_shows_is_kept_also_where_it_is_quiet(tmp_path, clock):
    path, screen = tmp_path / "progress.json", Screen(quiet=True)

    def kept():
        record = json.loads(path.read_text())
        assert record.pop("time") > 1e9
        return record

    screen.begin_stage(0, "train", 0)  # nobody keeps it yet
    assert not path.exists()
    with screen.keeping(path):
        screen.begin_stage(0, "train", 0)
        assert kept() == {"title": "round 0  train", "note": ""}
        with screen.bar("round 0  train", 100, done=20) as bar:
            assert kept()["done"] == 20 and kept()["seconds_left"] is None
            clock[0] += 1
            bar.advance(10, "loss 3.0", {"loss": 3.0})
            assert kept()["done"] == 20  # not more often than every two seconds
            clock[0] += 1
            bar.advance(10)
            assert kept() == {
                "title": "round 0  train", "done": 40, "total": 100, "per_second": 10.0,
                "seconds_left": 6.0, "note": "loss 3.0", "loss": 3.0,
            }  # fmt: skip
        assert kept() == {"title": "round 0  train", "note": "done"}
        screen.doing("round 0  select", "chooses")
        assert kept() == {"title": "round 0  select", "note": "chooses"}
    assert not path.exists()


def test_a_full_disk_ends_no_run(tmp_path, clock):
    screen = Screen(quiet=True)
    with screen.keeping(tmp_path / "file" / "progress.json"):
        (tmp_path / "file").write_text("a file where a folder should be")
        with screen.bar("train", 10) as bar:
            clock[0] += 9
            bar.advance(10)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
