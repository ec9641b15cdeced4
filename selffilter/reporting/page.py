"""The page around the sections: one file that needs no network, and lets nothing of it in."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

import selffilter
from selffilter.plain_text import clipped
from selffilter.reporting.found import Found
from selffilter.reporting.markup import Markup, document, element, joined, stylesheet
from selffilter.reporting.sections import sections
from selffilter.reporting.story import state

MOST_BYTES = 5_000_000
"""Of a page; what goes into it is bounded so that it stays below."""


def page(found: Found) -> str:
    """Return the whole page.

    There is no script in it, and its policy forbids any, as it forbids whatever is not in the page:
    pictures are ``data:`` URLs, and of styles only the one whose hash it names counts.
    """
    called = clipped(found.run.store.root.resolve().name, 120)
    made = sections(found)
    links = [element("li", element("a", name, href=f"#{name.lower()}")) for name, _, _ in made]
    body = joined(
        element(
            "header",
            element("h1", called),
            element("p", state(found), class_="state" + (" open" * (found.compute is None))),
        ),
        element("nav", element("ul", links), aria_label="sections"),
        element(
            "main",
            [
                element("section", element("h2", title), content, id=name.lower())
                for name, title, content in made
            ],
        ),
        element("footer", f"selffilter {selffilter.__version__} · selffilter report"),
    )
    return document(_head(called), body)


def policy(css: str) -> str:
    """Return the page's Content-Security-Policy for a style."""
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return (
        "default-src 'none'; img-src data:; "
        f"style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def _head(name: str) -> Markup:
    css = _css()
    return joined(
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy(css)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", f"{name} · selffilter"),
        stylesheet(css),
    )


@cache
def _css() -> str:
    return Path(__file__).with_name("page.css").read_text(encoding="utf-8")
