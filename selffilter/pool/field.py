"""A field that rows are grouped by: which one, and its value as a short text. No disk here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from selffilter.errors import UserError

JSON = "json:"
"""Before a field, where it stands among the names of other groupings."""

MAX_CHARS = 80
"""A longer value is cut here: those that begin with the same characters are one."""

_LOOKED_AT = 1024
_DOMAIN = re.compile(r"domain\((.*)\)")


@dataclass(frozen=True)
class Field:
    """A field of a sample's json.

    Attributes:
        text: As it was written.
        path: Names from the outermost inwards, at least one.
        of_domain: Whether its value is a URL, of which the host counts.
    """

    text: str
    path: tuple[str, ...]
    of_domain: bool = False

    @classmethod
    def parse(cls, text: str, asked_as: str = "field") -> Field:
        """Parse ``NAME``, ``NAME.NAME``, …, or ``domain(…)`` of one of these.

        Args:
            text: What the user wrote.
            asked_as: What the user calls it, for errors.

        Raises:
            UserError: If it is none.
        """
        stripped = text.strip()
        found = _DOMAIN.fullmatch(stripped)
        path = tuple((found.group(1) if found else stripped).strip().split("."))
        if not all(path):
            raise UserError(
                f"{asked_as}={text!r} is no field of the samples' json: write NAME, NAME.NAME for "
                "one inside of another, or domain(NAME) for the host of a URL."
            )
        return cls(stripped, path, found is not None)

    def value(self, about: Mapping[str, Any]) -> str | None:
        """Return the field's value in a json object; None if it has none.

        A name that has dots itself, and an object that is written as text (img2dataset's ``exif``),
        are found too.
        """
        return self.render(_walk(about, self.path))

    def render(self, value: Any) -> str | None:
        """Return a value as a text of 1 to `MAX_CHARS` printable characters; None if that is empty.

        Texts stay as they are, numbers have up to 12 digits, lists and objects are written as json,
        a null is no value; of a URL the host counts, in lower case and without ``www.``.
        """
        return _printable(_host(value) if self.of_domain else _text(value)) or None


def parse_object(data: bytes | str | None) -> dict[str, Any] | None:
    """Return the json object that stands in a text; None if that holds none."""
    try:
        value = json.loads(data or b"")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _walk(value: Any, path: tuple[str, ...]) -> Any:
    for depth, name in enumerate(path):
        inside = parse_object(value) if isinstance(value, str) else value
        if not isinstance(inside, Mapping):
            return None
        whole = ".".join(path[depth:])
        if whole in inside:
            return inside[whole]
        value = inside.get(name)
    return value


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float):
        return format(value, ".12g")
    if isinstance(value, bool | list | dict):
        try:
            return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
        except RecursionError:  # as deep as can just be parsed
            return ""
    return str(value)


def _host(value: Any) -> str:
    if not isinstance(value, str):
        return ""
    try:
        host = urlsplit(value[:_LOOKED_AT].strip()).hostname or ""
    except ValueError:  # "Invalid IPv6 URL"
        return ""
    return host.rstrip(".").removeprefix("www.")


def _printable(text: str) -> str:
    """Cut a text, and leave out what moves a terminal's cursor or turns its writing round."""
    text = text[:_LOOKED_AT]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " * c.isspace() for c in text)
    return " ".join(text.split())[:MAX_CHARS].rstrip()
