"""A stranger's text made harmless: for terminals, tables and pages that only have to fill it in."""

from __future__ import annotations

import unicodedata

CAPTION_CHARS = 200
"""What is shown of a caption."""


def harmless(text: str) -> str:
    """Return a text that does nothing to a terminal but fill it.

    Control characters, escape sequences' first bytes, marks that turn the direction of writing and
    whatever else does not print become blanks; blanks in a row one.
    """
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def clipped(text: str, most: int = CAPTION_CHARS) -> str:
    """Return the beginning of a text, harmless."""
    whole = harmless(text[: 8 * most])
    return whole if len(whole) <= most else whole[: most - 2].rstrip() + " …"


def visible(text: str) -> str:
    r"""Return a message of ours with names of strangers' in it as what a terminal may be told.

    Lines and tabs stay; whatever else does not print stands there as Python writes it: ``\x1b``.
    """
    if text.isprintable():
        return text
    return "".join(c if _stays(c) else c.encode("unicode_escape").decode() for c in text)


def _stays(character: str) -> bool:
    return character.isprintable() or character in "\n\t" or unicodedata.category(character) == "Zs"
