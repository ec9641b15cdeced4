"""Where the captions of a sample stand, and what they are: from bytes to a list of texts.

A *caption key* says where captions stand. Its parts, separated by commas, are

- ``txt``: an extension; the text of that member is a caption;
- ``txt:lines``: each line of that member that is not blank is a caption;
- ``json:FIELD``: the string, or each string of the list, at that field of the json member.

At most one member besides the json can be named, so that reading a row's captions takes two reads
at most. A row may have several captions and remains one row.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from selffilter.errors import UserError
from selffilter.pool.decoding import IMAGE_EXTENSIONS
from selffilter.pool.failures import Failure, UnusableSample

MAX_CAPTIONS = 64
"""A row's captions beyond these are not read."""
MAX_CAPTION_BYTES = 8192
"""A caption is cut here (UTF-8). No text tower reads as far; tokenizers do, and some need ever more
time the longer a word is (open_clip 3.3.0: 1 s for one of 8 kB, 20 s for 64 kB)."""
MAX_MEMBER_BYTES = 1 << 20
"""A caption or json member that is larger is not read at all."""


@dataclass(frozen=True)
class Part:
    """One place of captions.

    Attributes:
        extension: Of the member, in lower case.
        lines: Whether each line of it is a caption.
        field: The field of the json that holds captions; None where the text itself does.
    """

    extension: str
    lines: bool = False
    field: str | None = None


@dataclass(frozen=True)
class CaptionKey:
    """A caption key, parsed.

    Attributes:
        text: As it was written.
        parts: In the order written.
    """

    text: str
    parts: tuple[Part, ...]

    @classmethod
    def parse(cls, text: str, asked_as: str = "pool.caption_key") -> CaptionKey:
        """Parse what the user wrote.

        Args:
            text: The caption key.
            asked_as: What the user calls it, for errors.

        Raises:
            UserError: If it is none.
        """
        parts = tuple(_parse_part(part, f"{asked_as}={text!r}") for part in text.split(","))
        members = {part.extension for part in parts if part.field is None}
        if len(members) > 1:
            raise UserError(
                f"{asked_as}={text!r} names {len(members)} members ({', '.join(sorted(members))}): "
                "captions can stand in one member, and in the json beside it."
            )
        places = [(part.extension, part.field) for part in parts]
        if len(set(places)) < len(places):
            raise UserError(f"{asked_as}={text!r} names a place twice: leave one out.")
        return cls(text, parts)

    @property
    def member(self) -> str | None:
        """The extension of the one member, not the json, that holds captions; None: no such."""
        return next((part.extension for part in self.parts if part.field is None), None)

    @property
    def uses_json(self) -> bool:
        """Whether captions stand in the json member."""
        return any(part.field is not None for part in self.parts)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of the json that hold captions."""
        return tuple(part.field for part in self.parts if part.field is not None)


def decode_captions(key: CaptionKey, member: bytes | None, about: bytes | None) -> list[str]:
    """Decode the captions of a row, in the order of the key's parts.

    Blank captions are dropped and blanks around captions are stripped. Of more than `MAX_CAPTIONS`
    the first ones count; a caption of more than `MAX_CAPTION_BYTES` is cut there. A part that
    cannot be read (not UTF-8, not a json object, no such field, a field that is neither a string
    nor a list with a string in it) is passed over as long as another one gives a caption.

    Args:
        key: Where captions stand.
        member: The bytes of the member `CaptionKey.member`; None if the row has none.
        about: The bytes of the json member; None if the row has none, or the key does not use it.

    Returns:
        One caption at least.

    Raises:
        UnusableSample: missing_caption if no part's member is there, caption_unreadable if a part
            could not be read, caption_empty if all are blank.
    """
    captions: list[str] = []
    unreadable, found = "", False
    for part in key.parts:
        data = member if part.field is None else about
        if data is None:
            continue
        found = True
        try:
            captions += _captions_of(part, data)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            unreadable = unreadable or f"{_name(part)}: {error!r}"
    if captions:
        return captions[:MAX_CAPTIONS]
    if unreadable:
        raise UnusableSample(Failure.caption_unreadable, unreadable)
    raise UnusableSample(Failure.caption_empty if found else Failure.missing_caption)


def _parse_part(text: str, where: str) -> Part:
    extension, colon, rest = (piece.strip() for piece in text.partition(":"))
    known = "EXTENSION, EXTENSION:lines or json:FIELD"
    if extension.lower() == "json":
        if not rest:
            raise UserError(f"{where}: which field of the json? Write json:FIELD.")
        return Part("json", field=rest)
    if not extension or set(extension) & set("/\\ \t\n*?[]{}=") or extension.startswith("."):
        raise UserError(f"{where}: {text.strip()!r} is no place for captions; write {known}.")
    if extension.lower() in IMAGE_EXTENSIONS:
        raise UserError(f"{where}: {extension!r} is where images stand; write {known}.")
    if colon and rest != "lines":
        raise UserError(
            f"{where}: {text.strip()!r}: what follows {extension}: can only be 'lines'. A field is "
            "read from the json member alone: json:FIELD."
        )
    return Part(extension.lower(), lines=bool(colon))


def _captions_of(part: Part, data: bytes) -> list[str]:
    if len(data) > MAX_MEMBER_BYTES:
        raise ValueError(f"{len(data)} bytes are more than {MAX_MEMBER_BYTES}")
    text = data.decode("utf-8")
    if part.field is not None:
        texts = _texts_at(json.loads(text), part.field)
    else:
        texts = text.splitlines() if part.lines else [text]
    some = [stripped for one in texts if (stripped := one.strip())]
    return [_cut(one) for one in some[:MAX_CAPTIONS]]


def _texts_at(about: object, field: str) -> list[str]:
    if not isinstance(about, dict):
        raise TypeError("not a json object")
    value = about[field]
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise TypeError(f"{type(value).__name__} is neither a string nor a list")
    texts = [item for item in value if isinstance(item, str)]
    if value and not texts:
        raise TypeError("no string in the list")
    return texts


def _cut(text: str) -> str:
    # Strict: a json may hold half a character, which no tokenizer takes.
    data = text.encode("utf-8")
    if len(data) <= MAX_CAPTION_BYTES:
        return text
    return data[:MAX_CAPTION_BYTES].decode("utf-8", "ignore").rstrip()


def _name(part: Part) -> str:
    return part.extension if part.field is None else f"json:{part.field}"
