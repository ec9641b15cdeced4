"""``compare.html``: the sections in the shell that the report has too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from selffilter.comparing.disputed import Sheet
from selffilter.comparing.gather import Gathered
from selffilter.comparing.page.agreeing import agreeing
from selffilter.comparing.page.curves import on_the_way
from selffilter.comparing.page.facts import alarms, compute, config
from selffilter.comparing.page.final import final
from selffilter.comparing.page.groups import groups
from selffilter.comparing.page.overview import called, legend, overview
from selffilter.comparing.page.samples import samples
from selffilter.reporting.markup import Markup
from selffilter.reporting.shell import MOST_BYTES, shell


def compare_page(
    found: Gathered, sheets: Sequence[tuple[Sheet, Sheet]], metric: str | None = None
) -> str:
    """Return the whole page; with fewer samples, and a note, if it would have too many bytes.

    Args:
        found: What was gathered.
        sheets: Samples that some keep and others do not.
        metric: Of evaluation sets, for the curves; None: a choice.
    """
    text = _page(found, sheets, metric)
    most = max((len(sheet.rows) for pair in sheets for sheet in pair), default=0)
    while len(text.encode()) > MOST_BYTES and sheets:
        most //= 2
        sheets = [(a.showing(most), b.showing(most)) for a, b in sheets] if most else []
        note = f"Sheets show {most} samples at most, for the page to stay below its bound."
        text = _page(replace(found, notes=[*found.notes, note]), sheets, metric)
    return text


def _page(found: Gathered, sheets: Sequence[tuple[Sheet, Sheet]], metric: str | None) -> str:
    made: list[tuple[str, str, Markup | None]] = [
        ("Overview", "What is compared", overview(found)),
        ("Results", "What came of it", final(found)),
        ("Curves", "On the way", on_the_way(found, metric)),
        ("Agreement", "How far they agree", agreeing(found)),
        ("Samples", "Where they disagree", samples(sheets, found.arms)),
        ("Groups", "Whom they favour", groups(found)),
        ("Alarms", "Alarms", alarms(found)),
        ("Compute", "Compute", compute(found)),
        ("Config", "Config and environment", config(found)),
    ]
    sections = [(name, title, content) for name, title, content in made if content is not None]
    return shell(called(found.arms), legend(found.arms), sections, "selffilter compare", _css())


@cache
def _css() -> str:
    return Path(__file__).with_name("compare.css").read_text(encoding="utf-8")
