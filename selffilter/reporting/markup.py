"""HTML and SVG from nested calls: whatever is not markup already is escaped on its way in."""

from __future__ import annotations

import html
from collections.abc import Iterable

_VOID = frozenset({"br", "img", "input", "meta", "wbr"})


class Markup(str):
    """Text that is HTML or SVG already. Only this module makes it of other text."""

    __slots__ = ()


Child = str | int | None | Iterable["Child"]
Attribute = str | int | float | bool | None


def element(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """Return an element.

    Args:
        name: Its tag.
        *children: Texts are escaped, `Markup` is not; None is left out, lists are taken apart.
        **attributes: A trailing ``_`` is dropped (``class_``), other ``_`` become ``-``; numbers
            lose what no screen shows; None and False are left out; True stands without a value.

    Raises:
        ValueError: If an element that has no content is given some.
    """
    opened = f"<{name}{''.join(_attribute(k, v) for k, v in attributes.items())}>"
    inside = joined(*children)
    if name in _VOID:
        if inside:
            raise ValueError(f"<{name}> has no content")
        return Markup(opened)
    return Markup(f"{opened}{inside}</{name}>")


def joined(*children: Child) -> Markup:
    """Return children one behind the other; see `element`."""
    return Markup("".join(_texts(children)))


def stylesheet(css: str) -> Markup:
    """Return a style element of our own rules.

    Raises:
        ValueError: If they would end it.
    """
    if "</" in css:
        raise ValueError("a stylesheet that closes its own element")
    return Markup(f"<style>{css}</style>")


def document(head: Markup, body: Markup) -> str:
    """Return a whole page."""
    return f'<!doctype html>\n<html lang="en">\n<head>{head}</head>\n<body>{body}</body>\n</html>\n'


def shortest(value: float) -> str:
    """Write a coordinate to a hundredth, without zeros that say nothing."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def _texts(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Markup):
            yield child
        elif isinstance(child, str | int):
            yield html.escape(str(child))
        else:
            yield from _texts(child)


def _attribute(name: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    text = shortest(value) if isinstance(value, float) else str(value)
    return f' {name}="{html.escape(text, quote=True)}"'
