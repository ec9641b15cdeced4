"""`selffilter report`: from a run directory to one HTML file."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from selffilter.errors import UserError
from selffilter.progress import Bar, NoBar
from selffilter.reporting.found import Found, find_out
from selffilter.reporting.page import page
from selffilter.reporting.shell import MOST_BYTES
from selffilter.reporting.story import state
from selffilter.rundir.on_disk import RunOnDisk
from selffilter.store import write_text
from selffilter.tracking.console import Screen

MOST_SAMPLES = 60
"""Of a sheet: ten sheets of so many leave each picture 4 kB."""
_MANY = 64


def run_report(run_dir: Path, out: Path | None, *, samples: int, screen: Screen) -> Path:
    """Write the report of a run, finished or not.

    Args:
        run_dir: The run.
        out: The file; None: ``report.html`` in the run directory.
        samples: How many a contact sheet shows at most; 0: no sheets.
        screen: Where progress and notes go.

    Returns:
        The file.

    Raises:
        UserError: If there is no run, `out` is a folder, or `samples` is out of range.
    """
    if not 0 <= samples <= MOST_SAMPLES:
        raise UserError(f"--samples {samples}: a sheet shows 0 to {MOST_SAMPLES}.")
    run = RunOnDisk.open(run_dir)
    path = out or run.store.root / "report.html"
    if path.is_dir():
        raise UserError(f"--out {path}: that is a folder; name a file.")

    def bar(title: str, total: int) -> AbstractContextManager[Bar]:
        return screen.bar(title, total) if total >= _MANY else nullcontext(NoBar())

    found, text = _bounded(find_out(run, samples, bar), samples)
    write_text(path, text)
    for note in found.notes:
        screen.say(f"note: {note}")
    screen.say(f"{run_dir}: {state(found)}")
    screen.say(f"wrote {path}")
    return path


def _bounded(found: Found, samples: int) -> tuple[Found, str]:
    """Return the page, with fewer samples if it would have too many bytes; and what it shows."""
    shown, text = found, page(found)
    while len(text.encode()) > MOST_BYTES and shown.sheets:
        samples //= 2
        shown = found.showing(samples)
        text = page(shown)
    return shown, text
