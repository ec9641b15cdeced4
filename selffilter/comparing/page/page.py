"""``compare.html``: the sections in the shell that the report has too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from selffilter.comparing.disputed import Disputed
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

_Sections = list[tuple[str, str, Markup | None]]


def compare_page(found: Gathered, disputed: Sequence[Disputed], metric: str | None = None) -> str:
    """Return the whole page; with fewer samples, and a note, if it would have too many bytes.

    Args:
        found: What was gathered; a note is added where samples are left out for the bound.
        disputed: Samples that some keep and others do not.
        metric: Of evaluation sets, for the curves; None: a choice.
    """
    before: _Sections = [
        ("Results", "What came of it", final(found)),
        ("Curves", "On the way", on_the_way(found, metric)),
        ("Agreement", "How far they agree", agreeing(found)),
    ]
    after: _Sections = [
        ("Groups", "Whom they favour", groups(found)),
        ("Alarms", "Alarms", alarms(found)),
        ("Compute", "Compute", compute(found)),
        ("Config", "Config and environment", config(found)),
    ]

    def page(shown: Sequence[Disputed], note: list[str]) -> str:
        told = overview(replace(found, notes=[*found.notes, *note]))
        first: _Sections = [("Overview", "What is compared", told)]
        pictures: _Sections = [("Samples", "Where they disagree", samples(shown, found.arms))]
        made = [*first, *before, *pictures, *after]
        sections = [(name, title, content) for name, title, content in made if content is not None]
        return shell(called(found.arms), legend(found.arms), sections, "selffilter compare", _css())

    text, note = page(disputed, []), list[str]()
    most = max((len(sheet.rows) for pair in disputed for sheet in pair.sheets), default=0)
    while len(text.encode()) > MOST_BYTES and most:
        most //= 2
        note = [f"Sheets show {most} samples at most, for the page to stay below its bound."]
        text = page([pair.showing(most) for pair in disputed] if most else [], note)
    if len(text.encode()) > MOST_BYTES:
        note = [f"The page is above its bound of {MOST_BYTES:,} bytes even without samples."]
        text = page([], note)
    found.notes.extend(note)
    return text


@cache
def _css() -> str:
    return Path(__file__).with_name("compare.css").read_text(encoding="utf-8")
