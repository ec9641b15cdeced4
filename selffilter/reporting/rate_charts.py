"""Rates, a line each: how often words and groups are kept. Pure functions from numbers to SVG."""

from __future__ import annotations

from collections.abc import Sequence

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
    height = _LINE_HEIGHT * len(rates) + 40
    x = Scale(0.0, highest, 122.0, WIDTH - 44.0)
    drawn: list[Child] = [_rate_rule(x, 1.0, height, "cut")]
    for place, (name, first, last, error, rows) in enumerate(rates):
        y = 24.0 + _LINE_HEIGHT * place
        drawn.append(label(116.0, y + 4, name[:18] + "…" * (len(name) > 18), "end", "word"))
        drawn.append(label(WIDTH - 4.0, y + 4, f"{rows:,}", "end", "soft"))
        if np.isfinite(first):
            drawn.append(element("circle", cx=x(min(first, highest)), cy=y, r=3.2, class_="ring"))
        if np.isfinite(last):
            ends = [max(0.0, last - 2 * error), min(highest, last + 2 * error)]
            drawn.append(
                element("line", x1=x(ends[0]), x2=x(ends[1]), y1=y, y2=y, class_="bar kept")
            )
            at = x(min(last, highest))
            drawn.append(element("circle", cx=at, cy=y, r=3.8, class_="dot kept"))
    drawn.append(label(WIDTH - 4.0, 9.0, "rows", "end", "soft"))
    for tick in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0):
        if tick <= highest:
            drawn.append(label(x(tick), height - 4, f"{tick:g}×", "middle"))
    named = ", ".join(f"{name} {last:.2f}" for name, _, last, _, _ in rates)
    told = f"selected, relative to the average row, by {title}: {named}"
    return chart(told, drawn, height=height)


def _bar(x: Scale, first: float, last: float, y: float) -> Markup:
    return element("line", x1=x(first), x2=x(last), y1=y, y2=y, class_="bar kept")


def _rate_rule(x: Scale, rate: float, height: float, kind: str) -> Markup:
    return element("line", x1=x(rate), x2=x(rate), y1=12.0, y2=height - 16, class_=kind)


def _percents(x: Scale, height: float) -> list[Markup]:
    step = 0.1 if x.high <= 0.5 else 0.25
    shares = np.arange(0.0, x.high + 1e-9, step).tolist()
    return [label(x(share), height - 4, f"{share:.0%}", "middle") for share in shares]
