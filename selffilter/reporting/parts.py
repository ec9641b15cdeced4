"""Small pieces that several sections are made of: tables, lists of fields, numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from selffilter.plain_text import clipped
from selffilter.reporting.axes import signed
from selffilter.reporting.markup import Child, Markup, element

_VALUE_CHARS = 200


def table(
    heads: Sequence[Child], rows: Sequence[Sequence[Child]], kind: str | None = None
) -> Markup:
    """Return a table of numbers, in a box that can be scrolled if the screen is narrow.

    Args:
        heads: Of the columns.
        rows: Cells.
        kind: A class of the style, for tables of something else.
    """
    return element(
        "div",
        element(
            "table",
            element("thead", element("tr", [element("th", head, scope="col") for head in heads])),
            element(
                "tbody",
                [element("tr", [element("td", cell) for cell in row]) for row in rows],
            ),
            class_=kind,
        ),
        class_="scroll",
        tabindex=0,
        role="region",
        aria_label="table",
    )


def fields(values: dict[str, Any]) -> Markup:
    """Return names and values, the longest cut off."""
    return element(
        "dl",
        [
            (element("dt", name), element("dd", clipped(_plain(value), _VALUE_CHARS) or "–"))
            for name, value in values.items()
        ],
        class_="fields",
    )


def _plain(value: Any) -> str:
    return "null" if value is None else str(value)


def number(value: Any, spec: str) -> str:
    """Write a number; None as a dash."""
    return "–" if value is None else signed(value, spec)


def percent(value: Any) -> str:
    """Write a share; None as a dash."""
    return "–" if value is None else f"{value:.0%}"
