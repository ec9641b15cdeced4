"""Marks that tell lines apart without colours too: eight shapes, eight colours and dashes."""

from __future__ import annotations

import math

from selffilter.reporting.markup import Markup, element

LETTERS = "abcdefgh"
"""Of colours (with their dashes) and of shapes; the style says what they look like."""


def kind_of(number: int) -> str:
    """Return the kind of the mark of the line with a number: the same for no two below 64.

    A kind is the letter of a colour, and after a tilde that of a shape if it is another one.
    """
    letter = LETTERS[number % len(LETTERS)]
    shape = LETTERS[(number + number // len(LETTERS)) % len(LETTERS)]
    return letter if letter == shape else f"{letter}~{shape}"


def colour_of(kind: str) -> str:
    """Return the letter of a kind's colour, a class of the style."""
    return kind.partition("~")[0]


def marker(kind: str, x: float, y: float, size: float = 1.0) -> Markup:
    """Draw a mark.

    Args:
        kind: See `kind_of`.
        x: Its middle.
        y: Likewise.
        size: 1 is that of a point on a curve.
    """
    colour, _, shape = kind.partition("~")
    shape, class_ = shape or colour, f"dot {colour}"
    if shape not in _PATHS:
        return element("circle", cx=x, cy=y, r=2.8 * size, class_=class_)
    if shape == "b":
        side = 5.2 * size
        return element("rect", x=x - side / 2, y=y - side / 2, width=side, height=side,
                       class_=class_)  # fmt: skip
    points = "L".join(f"{x + size * a:.1f} {y + size * b:.1f}" for a, b in _PATHS[shape])
    return element("path", d=f"M{points}Z", class_=class_)


def _regular(corners: int, radius: float, turned: float = 0.0) -> list[tuple[float, float]]:
    angles = [2 * math.pi * k / corners + turned for k in range(corners)]
    return [(radius * math.sin(angle), -radius * math.cos(angle)) for angle in angles]


def _cross(arm: float, half: float, turned: float) -> list[tuple[float, float]]:
    """A plus with arms of some length and half width."""
    corner = math.hypot(arm, half)
    aside = math.atan2(half, arm)
    found = []
    for quarter in range(4):
        at = turned + quarter * math.pi / 2
        found += [(corner * math.sin(at - aside), -corner * math.cos(at - aside))]
        found += [(corner * math.sin(at + aside), -corner * math.cos(at + aside))]
        inner, between = half * math.sqrt(2), at + math.pi / 4
        found += [(inner * math.sin(between), -inner * math.cos(between))]
    return found


def _star() -> list[tuple[float, float]]:
    outer, inner = _regular(5, 4.2), _regular(5, 1.8, math.pi / 5)
    return [point for pair in zip(outer, inner, strict=True) for point in pair]


_PATHS: dict[str, list[tuple[float, float]]] = {
    "b": [],  # a square
    "c": [(0.0, -3.4), (3.2, 2.2), (-3.2, 2.2)],
    "d": _regular(4, 3.7),
    "e": [(0.0, 3.4), (3.2, -2.2), (-3.2, -2.2)],
    "f": _cross(3.6, 1.1, 0.0),
    "g": _star(),
    "h": _cross(3.8, 1.0, math.pi / 4),
}
