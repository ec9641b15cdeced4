import io
import math

import pytest
from rich.console import Console

from selffilter.store import RunStore
from selffilter.tracking import console as console_module
from selffilter.tracking import pace
from selffilter.tracking.console import COLUMNS, Screen, format_row, what_lies_where

SUMMARY = {
    "round": 2, "samples_seen": 30_720, "loss": 4.1234, "acc1": 0.0561,
    "mean_per_class_recall": 0.1, "selected": 3712, "precision": 0.7612, "auc": 0.8,
    "overlap": 0.55555, "cue_sd": 0.123, "cue_sd_error": 0.04,
}  # fmt: skip


def screen(terminal=False, quiet=False):
    out = io.StringIO()
    made = Screen(quiet, Console(file=out, force_terminal=terminal, width=200, highlight=False))
    return made, out


def test_a_row_has_every_column_under_its_heading():
    shown, out = screen()
    shown.round_row(SUMMARY)
    heading, row = out.getvalue().splitlines()
    assert len(heading) == len(row) == sum(width for _, width, _ in COLUMNS)
    cells, end = {}, 0
    for title, width, _ in COLUMNS:
        assert heading[end : end + width].strip() == title
        cells[title] = row[end : end + width].strip()
        end += width
    assert cells == {
        "round": "2", "samples": "30,720", "loss": "4.12", "acc1 %": "5.6", "recall %": "10.0",
        "selected": "3,712", "precision": "0.761", "AUC": "0.800", "overlap": "0.556",
        "cue (sd)": "+0.12±0.04",
    }  # fmt: skip


@pytest.mark.parametrize("missing", [{}, {"loss": math.nan, "auc": None, "cue_sd": math.nan}])
def test_what_is_not_known_is_a_dash(missing):
    cells = format_row({"round": 0, **missing}).split()
    assert cells == ["0"] + ["–"] * (len(COLUMNS) - 1)


def test_the_heading_comes_once_a_table():
    shown, out = screen()
    for _ in range(3):
        shown.round_row(SUMMARY)
    shown.begin_table()
    shown.round_row(SUMMARY)
    assert ["round" in line for line in out.getvalue().splitlines()] == [
        True, False, False, False, True, False,
    ]  # fmt: skip


def test_names_from_a_pool_are_no_markup_and_long_lines_are_not_broken():
    shown, out = screen()
    text = "[bold]pool[/x] :smile: [link=http://x]" + "y" * 400
    shown.say(text)
    assert out.getvalue() == text + "\n"


def test_a_bar_with_a_hostile_title_is_drawn_on_a_terminal():
    shown, _ = screen(terminal=True)
    with shown.bar("[/red] pool", 10, done=2) as bar:
        bar.advance(3, "[/note]")
        bar.advance(5)


def test_quiet_says_nothing():
    shown, out = screen(quiet=True)
    shown.say("x")
    shown.round_row(SUMMARY)
    with shown.bar("train", 10) as bar:
        bar.advance(10, "note")
    assert out.getvalue() == ""


def test_in_a_log_a_bar_is_a_line_every_half_minute_and_at_the_end(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(console_module.time, "monotonic", lambda: now[0])
    shown, out = screen()
    with shown.bar("train", 1000, done=400) as bar:
        for seconds in (10, 10, 10, 10, 10):
            now[0] += seconds
            bar.advance(100, "loss 3.0")
        now[0] += 10
        bar.advance(100)
    lines = out.getvalue().splitlines()
    # Rate and time left count what this process did, not what it found done.
    assert lines == [
        "train  700/1,000  10/s  0:30 left  loss 3.0",
        "train  1,000/1,000  10/s  1:00  loss 3.0",
    ]


def test_hours_are_written_out():
    assert pace.rate(10, 0, 100, 600.0) == "10/100  0.02/s  1:30:00 left"
    assert pace.rate(0, 0, 100, 0.0) == "0/100  0/s  0:00"


def test_it_says_where_the_results_lie(tmp_path):
    text = what_lies_where(RunStore(tmp_path))
    for path in ("final", "final/subset.npy", "metrics.jsonl"):
        assert f"{tmp_path}/{path}" in text
