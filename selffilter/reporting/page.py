"""The report's page: its sections in the shell that all pages have."""

from __future__ import annotations

from selffilter.plain_text import clipped
from selffilter.reporting.found import Found
from selffilter.reporting.markup import element
from selffilter.reporting.sections import sections
from selffilter.reporting.shell import shell
from selffilter.reporting.story import state


def page(found: Found) -> str:
    """Return the whole page."""
    called = clipped(found.run.store.root.resolve().name, 120)
    under = element("p", state(found), class_="state" + (" open" * (found.compute is None)))
    return shell(called, under, sections(found), "selffilter report")
