"""The page around sections: one file that needs no network, and lets nothing of it in."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import selffilter
from selffilter.reporting.markup import Child, Markup, document, element, joined, stylesheet

MOST_BYTES = 5_000_000
"""Of a page. Pictures are bounded; where the rest is too much, sheets show fewer samples."""

Section = tuple[str, str, Markup]
"""Name, for links; title; content."""


def shell(called: str, state: Child, made: Sequence[Section], command: str, css: str = "") -> str:
    """Return a whole page.

    There is no script in it, and its policy forbids any, as it forbids whatever is not in the page:
    pictures are ``data:`` URLs, and of styles only the one whose hash it names counts.

    Args:
        called: What it is about, in a few harmless words.
        state: What stands below that.
        made: The sections.
        command: What made it, for the last line.
        css: Rules of its own, behind those that all pages have.
    """
    links = [element("li", element("a", name, href=f"#{name.lower()}")) for name, _, _ in made]
    body = joined(
        element("header", element("h1", called), state),
        element("nav", element("ul", links), aria_label="sections"),
        element(
            "main",
            [
                element("section", element("h2", title), content, id=name.lower())
                for name, title, content in made
            ],
        ),
        element("footer", f"selffilter {selffilter.__version__} · {command}"),
    )
    return document(_head(called, _css() + css), body)


def policy(css: str) -> str:
    """Return the page's Content-Security-Policy for a style."""
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return (
        "default-src 'none'; img-src data:; "
        f"style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def _head(name: str, css: str) -> Markup:
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
