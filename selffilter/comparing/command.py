"""`selffilter compare`: from paths to tables, a page, ``compare.json`` and pictures."""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from rich.console import Console

from selffilter.comparing.gather import Gathered, ShowBar, gather
from selffilter.comparing.sides import open_sides
from selffilter.comparing.tables import tables
from selffilter.errors import UserError
from selffilter.progress import Bar, NoBar
from selffilter.store import without_nan, write_json, write_text
from selffilter.tracking.console import Screen

_MANY_SHARDS = 64
_WIDTH = 120
"""Of the tables, in characters, where there is no terminal to fit them into."""


def run_compare(
    paths: list[Path],
    out: Path | None,
    *,
    round_: int | None,
    metric: str | None,
    samples: int,
    as_json: bool,
    screen: Screen,
) -> None:
    """Print how runs and subsets compare, and write it down.

    Args:
        paths: Run directories and subset files.
        out: Where ``compare.html``, ``compare.json`` and the pictures go; None: nowhere.
        round_: Whose selection, of the runs; None: the last of each.
        metric: Of the evaluation sets, for page and pictures; None: the first of each.
        samples: How many a contact sheet shows, on the page fewer if need be; 0: no sheets.
        as_json: Print JSON instead of tables.
        screen: Where progress and notes go.

    Raises:
        UserError: If something named is no run or subset, or `out` is no folder.
    """
    if out is not None and out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: that is a file; name a folder.")

    def bar(title: str, total: int) -> AbstractContextManager[Bar]:
        return screen.bar(title, total) if total >= _MANY_SHARDS else nullcontext(NoBar())

    found = gather(open_sides(paths, round_), bar, metric)
    written = [] if out is None else _write(found, out, metric, samples, bar)
    if as_json:
        print(json.dumps(without_nan(found.record()), indent=2))
    else:
        terminal = sys.stdout.isatty()
        console = Console(highlight=False, width=None if terminal else _WIDTH)
        for table in tables(found):
            console.print(table)
            console.print()
    for note in found.notes:
        screen.say(f"note: {note}")
    for path in written:
        screen.say(f"wrote {path}")


def _write(
    found: Gathered, out: Path, metric: str | None, samples: int, bar: ShowBar
) -> list[Path]:
    """Write what can be written; what cannot is noted. ``compare.json`` comes last."""
    written = _figures(found, out, metric)
    if samples:
        from selffilter.comparing.sheets import draw_sheets

        sheets, why_not = draw_sheets(found.sides, out, samples)
        written += sheets
        found.notes.extend(why_not)
    written.append(_page(found, out, metric, samples, bar))
    record = found.record() | {"files": [path.name for path in written]}
    write_json(out / "compare.json", record)
    return [out / "compare.json", *written]


def _page(found: Gathered, out: Path, metric: str | None, samples: int, bar: ShowBar) -> Path:
    from selffilter.comparing.disputed import MOST_TILES, disputed_samples
    from selffilter.comparing.page.page import compare_page

    with bar("read samples", MOST_TILES if samples else 0) as shown:
        sheets = disputed_samples(found.arms, samples, found.notes, shown.advance)
    path = out / "compare.html"
    write_text(path, compare_page(found, sheets, metric))
    return path


def _figures(found: Gathered, out: Path, metric: str | None) -> list[Path]:
    try:
        from selffilter.comparing.figures import draw
    except ImportError as error:
        if error.name is None or not error.name.startswith("matplotlib"):
            raise
        missing = "matplotlib is missing: pip install 'selffilter[experiments]'"
        found.notes.append(f"no plots: {missing}.")
        return []
    return draw(found, out, metric)
