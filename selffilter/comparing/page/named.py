"""How arms and runs are named on the page: with a mark that is theirs everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from selffilter.comparing.arms import Arm
from selffilter.comparing.sides import Side
from selffilter.plain_text import clipped
from selffilter.reporting.charts import key
from selffilter.reporting.marks import kind_of, marker
from selffilter.reporting.markup import Markup, element

_NAME_CHARS = 60
_CELL_CHARS = 80


def mark(arm: Arm) -> Markup:
    """Return an arm's mark by itself."""
    drawn = marker(kind_of(arm.number), 7.0, 6.0, 1.2)
    return element("svg", drawn, viewBox="0 0 14 12", class_="own", aria_hidden="true")


def arm_name(arm: Arm) -> Markup:
    """Return an arm's mark and name."""
    return element("span", mark(arm), arm.name, class_="named")


def side_name(side: Side, arm: Arm) -> Markup:
    """Return a run's mark, letter and name."""
    name = clipped(side.name, _NAME_CHARS)
    return element("span", mark(arm), element("b", side.letter), f" {name}", class_="named")


def arm_key(arms: Sequence[Arm]) -> Markup:
    """Return a legend of arms as lines."""
    return key([(f"line {kind_of(arm.number)}", f"{arm.name} ({_runs(arm)})") for arm in arms])


def _runs(arm: Arm) -> str:
    if not arm.is_runs:
        return f"{arm.letters}, a subset"
    return f"{arm.letters}" + ("" if len(arm.sides) > 1 else ", one seed")


def arm_of(arms: Sequence[Arm]) -> Mapping[str, Arm]:
    """Return letter of a side → its arm."""
    return {side.letter: arm for arm in arms for side in arm.sides}


def cell(value: Any) -> str:
    """Write a field's value, harmless and not too long."""
    return clipped("null" if value is None else str(value), _CELL_CHARS) or "–"


def about(*told: str) -> Markup:
    """Return a remark in small letters."""
    return element("p", " ".join(one for one in told if one), class_="about")
