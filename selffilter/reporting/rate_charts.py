"""Rates, a line each: how often words and groups are kept. Pure functions from numbers to SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from selffilter.reporting.axes import WIDTH, Scale, chart, label
from selffilter.reporting.markup import Child, Markup, element
from selffilter.reporting.words import Word

_LINE_HEIGHT = 21.0


def word_rates(words: Sequence[Word], all_first: float, all_last: float, highest: float) -> Markup:
    """Draw, a word a line, the share of its captions that the first and the last round keep.

    Args:
        words: The words.
        all_first: Share of all captions that the first round keeps.
        all_last: That of the last.
        highest: End of the axis.
    """
    height = _LINE_HEIGHT * len(words) + 40
    x = Scale(0.0, highest, 122.0, WIDTH - 44.0)
    drawn: list[Child] = [_rate_rule(x, all_last, height, "cut")]
    if all_first != all_last:
        drawn.append(_rate_rule(x, all_first, height, "rule"))
    for place, word in enumerate(words):
        y = 24.0 + _LINE_HEIGHT * place
        drawn += [
            label(116.0, y + 4, word.word[:18] + "…" * (len(word.word) > 18), "end", "word"),
            _bar(x, word.first, word.last, y),
            element("circle", cx=x(word.first), cy=y, r=3.2, class_="ring"),
            element("circle", cx=x(word.last), cy=y, r=3.8, class_="dot kept"),
            label(WIDTH - 4.0, y + 4, f"{word.captions:,}", "end", "soft"),
        ]
    drawn.append(label(WIDTH - 4.0, 9.0, "captions", "end", "soft"))
    drawn += _percents(x, height)
    named = ", ".join(f"{w.word} {w.last:.0%}" for w in words)
    return chart(f"share of the captions with a word that are kept: {named}", drawn, height=height)


def group_rates(
    rates: Sequence[tuple[str, float, float, float, int]], highest: float, title: str
) -> Markup:
    """Draw how often groups are selected, relative to the average row.

    Args:
        rates: Name, relative rate in the first round, in the last (NaN: none), its standard error,
            rows in the base; a line each.
        highest: End of the axis.
        title: What they are groups of.
    """
    frame = GroupFrame.of([(name, rows) for name, _, _, _, rows in rates], highest)
    x, drawn = frame.x, list[Child]()
    for place, (_, first, last, error, _) in enumerate(rates):
        y = frame.y(place)
        if np.isfinite(first):
            drawn.append(element("circle", cx=x(min(first, highest)), cy=y, r=3.2, class_="ring"))
        if np.isfinite(last):
            drawn.append(frame.bar(last - 2 * error, last + 2 * error, y, "kept"))
            at = x(min(last, highest))
            drawn.append(element("circle", cx=at, cy=y, r=3.8, class_="dot kept"))
    named = ", ".join(f"{name} {last:.2f}" for name, _, last, _, _ in rates)
    told = f"selected, relative to the average row, by {title}: {named}"
    return frame.chart(told, drawn)


@dataclass(frozen=True)
class GroupFrame:
    """What stands around rates of groups: their names and sizes, and the axis.

    Attributes:
        groups: Name and rows of each.
        x: From relative rates to places.
        line_height: Of a group.
    """

    groups: Sequence[tuple[str, int]]
    x: Scale
    line_height: float

    @classmethod
    def of(
        cls, groups: Sequence[tuple[str, int]], highest: float, line_height: float = _LINE_HEIGHT
    ) -> GroupFrame:
        """Return the frame of some groups, with rates up to the highest."""
        return cls(groups, Scale(0.0, highest, 122.0, WIDTH - 44.0), line_height)

    def y(self, place: int) -> float:
        """Return the middle of a group's line."""
        return 13.5 + self.line_height * (place + 0.5)

    def bar(self, low: float, high: float, y: float, kind: str) -> Markup:
        """Draw an interval; what is beyond the axis is cut off."""
        ends = [self.x(min(max(value, 0.0), self.x.high)) for value in (low, high)]
        return element("line", x1=ends[0], x2=ends[1], y1=y, y2=y, class_=f"bar {kind}")

    def chart(self, told: str, drawn: Sequence[Child]) -> Markup:
        """Return the chart with what is drawn in it.

        Args:
            told: What it shows, in words.
            drawn: Marks.
        """
        height = self.line_height * len(self.groups) + 40
        around: list[Child] = [_rate_rule(self.x, 1.0, height, "cut")]
        for place, (name, rows) in enumerate(self.groups):
            y = self.y(place) + 4
            around.append(label(116.0, y, name[:18] + "…" * (len(name) > 18), "end", "word"))
            around.append(label(WIDTH - 4.0, y, f"{rows:,}", "end", "soft"))
        around.append(label(WIDTH - 4.0, 9.0, "rows", "end", "soft"))
        for tick in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0):
            if tick <= self.x.high:
                around.append(label(self.x(tick), height - 4, f"{tick:g}×", "middle"))
        return chart(told, around, drawn, height=height)


def _bar(x: Scale, first: float, last: float, y: float) -> Markup:
    return element("line", x1=x(first), x2=x(last), y1=y, y2=y, class_="bar kept")


def _rate_rule(x: Scale, rate: float, height: float, kind: str) -> Markup:
    return element("line", x1=x(rate), x2=x(rate), y1=12.0, y2=height - 16, class_=kind)


def _percents(x: Scale, height: float) -> list[Markup]:
    step = 0.1 if x.high <= 0.5 else 0.25
    shares = np.arange(0.0, x.high + 1e-9, step).tolist()
    return [label(x(share), height - 4, f"{share:.0%}", "middle") for share in shares]
