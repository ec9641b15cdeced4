"""A coordinate system in SVG: scales, ticks, grid, labels. Colours come from the style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from selffilter.reporting.markup import Child, Markup, element

WIDTH, HEIGHT = 340.0, 210.0
"""Of a chart, in its own units: about pixels, so that texts have the size that the style says."""


@dataclass(frozen=True)
class Scale:
    """From values to places along an axis.

    Attributes:
        low: Value at `begin`.
        high: Value at `end`.
        begin: Place of the lowest value.
        end: Place of the highest.
    """

    low: float
    high: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the place of a value."""
        share = (value - self.low) / (self.high - self.low)
        return self.begin + share * (self.end - self.begin)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round values in [low, high], their distance 1, 2, 2.5 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / max(1, about)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= 0.85 * rough)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [place * step for place in range(first, last + 1)]


def brief(value: float) -> str:
    """Write a value as an axis does: 0.25, 40, 51k, 1.28M, 12.8G."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return signed(value / size, ".4g") + letter
    return signed(value, ".4g")


def whole(count: int) -> str:
    """Write a count: 7,139, but from a million on 1.28M."""
    return f"{count:,}" if count < 1_000_000 else brief(count)


def signed(value: float, spec: str = ".3g") -> str:
    """Write a number with a minus sign, not a hyphen."""
    return format(value, spec).replace("-", "−")


def widened(low: float, high: float, bounds: tuple[float, float] | None = None) -> list[float]:
    """Leave some room around values, but none beyond what they cannot be."""
    room = 0.06 * (high - low) or 0.1 * abs(high) or 0.5
    low, high = low - room, high + room
    return [low, high] if bounds is None else [max(low, bounds[0]), min(high, bounds[1])]


@dataclass(frozen=True)
class Axes:
    """Two scales and what is drawn around them.

    Attributes:
        x: To the right.
        y: Upwards.
    """

    x: Scale
    y: Scale

    @classmethod
    def over(
        cls, x: Sequence[float], y: Sequence[float], *, left: float = 38.0, bottom: float = 24.0,
        width: float = WIDTH, height: float = HEIGHT,
    ) -> Axes:  # fmt: skip
        """Return axes over lowest and highest values, in a chart of some size."""
        return cls(Scale(x[0], x[1], left, width - 8.0), Scale(y[0], y[1], height - bottom, 8.0))

    def frame(self, *, x_label: str = "", x_about: int = 4, y_about: int = 4) -> Markup:
        """Draw grid, ticks and the name of the x axis."""
        parts: list[Child] = []
        for value in ticks(self.y.low, self.y.high, y_about):
            y = self.y(value)
            parts.append(_line(self.x.begin, y, self.x.end, y, "grid"))
            parts.append(label(self.x.begin - 5, y + 3.5, brief(value), "end"))
        for value in ticks(self.x.low, self.x.high, x_about):
            x = self.x(value)
            parts.append(_line(x, self.y.begin, x, self.y.begin + 3, "tick"))
            parts.append(label(x, self.y.begin + 14, brief(value), "middle"))
        parts.append(_line(self.x.begin, self.y.begin, self.x.end, self.y.begin, "axis"))
        if x_label:
            parts.append(label(self.x.end, self.y.begin + 26, x_label, "end", "soft"))
        return element("g", *parts)

    def rule(self, x: float, kind: str = "rule") -> Markup:
        """Draw a line from top to bottom."""
        return _line(self.x(x), self.y.begin, self.x(x), self.y.end, kind)

    def path(self, points: Sequence[tuple[float, float]]) -> str:
        """Return the ``d`` of a line through points."""
        places = (f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in points)
        return "M" + "L".join(places)


def label(x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> Markup:
    """Write a text."""
    return element("text", text, x=x, y=y, text_anchor=anchor, class_=kind or None)


def chart(title: str, *children: Child, width: float = WIDTH, height: float = HEIGHT) -> Markup:
    """Return a picture that says to those who do not see it what it is.

    Args:
        title: What it shows, in words.
        *children: What is drawn.
        width: In its own units.
        height: Likewise.
    """
    return element(
        "svg",
        element("title", title),
        *children,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        class_="chart",
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return element("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=kind)
