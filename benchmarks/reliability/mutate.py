"""Edits that make hostile files of good ones, the same for the tests and for the long form.

A case is the number of a good file and a few edits of its bytes: so Hypothesis can draw one and
take edits away, and `fuzz.py` can write one down before it is tried.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import NamedTuple

import numpy as np

KINDS = ("flip", "set", "insert", "remove", "repeat", "cut", "number")
BLOCK = 512

VALUES = (
    b"\0", b"\xff", b"\x7f", b"\x80", b"\0" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f",
    b"\x7f\xff\xff\xff",
    b"\0" * 8, b"\xff" * 8, b"\xff" * 7 + b"\x7f", b"\0" * BLOCK, b"../../", b"/etc/passwd\0",
    b"|sh", b"$(id)", b"\x1b]0;x\x07", b"\xed\xa0\x80", b"\xe2\x80\xae", b"NaN", b"-1", b"1e999",
    b"null", b"[" * 4000, b'{"a":' * 2000, b"\n", b":", b"'", b'"', b"- &a [*a]",
    b"!!python/object:x",
)  # fmt: skip
"""Bytes at which formats have broken: lengths at the ends of their ranges, paths, commands,
control characters, half characters, numbers that are none, depth."""
NUMBERS = (b"-1", b"0", b"99999999999", b"9223372036854775807", b"18446744073709551616", b"1e400")
_DIGITS = re.compile(rb"\d+")


class Edit(NamedTuple):
    """One edit: what, where (a place in the file, taken round its end), how far, which value."""

    kind: str
    at: int
    length: int
    value: int


def edited(data: bytes, edits: tuple[Edit, ...]) -> bytes:
    """Apply edits, one after another."""
    for edit in edits:
        data = _edited(data, edit)
    return data


def _edited(data: bytes, edit: Edit) -> bytes:
    at = edit.at % max(1, len(data))
    value, end = VALUES[edit.value % len(VALUES)], at + edit.length
    match edit.kind:
        case "flip" if data:
            return data[:at] + bytes([data[at] ^ 1 << edit.value % 8]) + data[at + 1 :]
        case "set":
            return data[:at] + value + data[at + len(value) :]
        case "insert":
            return data[:at] + value + data[at:]
        case "remove":
            return data[:at] + data[end:]
        case "repeat":
            return data[:end] + data[at:]
        case "cut":
            return data[:at]
        case "number" if found := _DIGITS.search(data, at):
            number = NUMBERS[edit.value % len(NUMBERS)]
            return data[: found.start()] + number + data[found.end() :]
    return data


def drawn(rng: np.random.Generator, most: int = 6) -> tuple[Edit, ...]:
    """Draw edits, mostly few of them."""
    count = 1 + int(rng.geometric(0.5)) % most
    # Half of the places are at the head, where the formats' own words stand.
    return tuple(
        Edit(
            KINDS[int(rng.integers(len(KINDS)))],
            int(rng.integers(1 << (9 if rng.random() < 0.5 else 30))),
            int(rng.integers(1, 1 << int(rng.integers(1, 12)))),
            int(rng.integers(1 << 10)),
        )
        for _ in range(count)
    )


def mended_tar(data: bytes) -> bytes:
    """Make the checksums of a tar's headers right again, so that a reader goes on behind them."""
    out = bytearray(data)
    for begin in range(0, len(out) - BLOCK + 1, BLOCK):
        if out[begin + 257 : begin + 262] == b"ustar":
            out[begin + 148 : begin + 156] = b" " * 8
            out[begin + 148 : begin + 156] = b"%06o\0 " % sum(out[begin : begin + BLOCK])
    return bytes(out)


def mended_png(data: bytes) -> bytes:
    """Make the checksums of a PNG's chunks right again; other bytes stay as they are."""
    if not data.startswith(b"\x89PNG"):
        return data
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        (size,) = struct.unpack_from(">I", out, at)
        if at + 12 + size > len(out):
            break
        struct.pack_into(">I", out, at + 8 + size, zlib.crc32(out[at + 4 : at + 8 + size]))
        at += 12 + size
    return bytes(out)
