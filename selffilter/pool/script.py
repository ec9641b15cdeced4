"""The script that a text is mostly written in.

It stands for the language where nobody tells it, and says less: Latin is English as well as
Vietnamese, and what it counts is letters, of which a Chinese word has fewer than an English one.
"""

from __future__ import annotations

import enum

import numpy as np


class Script(enum.IntEnum):
    """The dominant script of a text's letters; stored as uint8."""

    none = 0
    """No letter at all; or nobody has looked."""
    latin = 1
    cyrillic = 2
    greek = 3
    arabic = 4
    hebrew = 5
    devanagari = 6
    han = 7
    kana = 8
    hangul = 9
    thai = 10
    other = 11
    mixed = 12
    """No script has more than half of the letters."""


JAPANESE_KANA = 0.1
"""Where at least so large a share of the letters of Han and kana is kana, the Han letters count as
kana: Japanese is written in both, and a Chinese text may have a single kana for show."""

_RANGES = (
    (0x41, 0x24F, Script.latin),
    (0x250, 0x2B8, Script.latin),
    (0x2E0, 0x2E4, Script.latin),
    (0x370, 0x3E1, Script.greek),
    (0x3F0, 0x3FF, Script.greek),
    (0x400, 0x52F, Script.cyrillic),
    (0x590, 0x5FF, Script.hebrew),
    (0x600, 0x6FF, Script.arabic),
    (0x750, 0x77F, Script.arabic),
    (0x870, 0x8FF, Script.arabic),
    (0x900, 0x97F, Script.devanagari),
    (0xE00, 0xE7F, Script.thai),
    (0x1100, 0x11FF, Script.hangul),
    (0x1C80, 0x1C8F, Script.cyrillic),
    (0x1D00, 0x1DBF, Script.latin),
    (0x1E00, 0x1EFF, Script.latin),
    (0x1F00, 0x1FFF, Script.greek),
    (0x2071, 0x209C, Script.latin),
    (0x212A, 0x212B, Script.latin),
    (0x2183, 0x2184, Script.latin),
    (0x2C60, 0x2C7F, Script.latin),
    (0x3005, 0x3007, Script.han),
    (0x3031, 0x3035, Script.kana),
    (0x3041, 0x30FF, Script.kana),
    (0x3131, 0x318E, Script.hangul),
    (0x31F0, 0x31FF, Script.kana),
    (0x3400, 0x4DBF, Script.han),
    (0x4E00, 0x9FFF, Script.han),
    (0xA640, 0xA69F, Script.cyrillic),
    (0xA722, 0xA7FF, Script.latin),
    (0xA8E0, 0xA8FF, Script.devanagari),
    (0xA960, 0xA97F, Script.hangul),
    (0xAB30, 0xAB6F, Script.latin),
    (0xAC00, 0xD7FF, Script.hangul),
    (0xF900, 0xFAFF, Script.han),
    (0xFB00, 0xFB06, Script.latin),
    (0xFB1D, 0xFB4F, Script.hebrew),
    (0xFB50, 0xFDFF, Script.arabic),
    (0xFE70, 0xFEFE, Script.arabic),
    (0xFF21, 0xFF5A, Script.latin),
    (0xFF66, 0xFF9F, Script.kana),
    (0xFFA0, 0xFFDC, Script.hangul),
    (0x10780, 0x107BF, Script.latin),
    (0x10EC0, 0x10EFF, Script.arabic),
    (0x1AFF0, 0x1B16F, Script.kana),
    (0x1DF00, 0x1DFFF, Script.latin),
    (0x1E030, 0x1E08F, Script.cyrillic),
    (0x1EE00, 0x1EEFF, Script.arabic),
    (0x20000, 0x3FFFF, Script.han),
)
"""First and last code point of Unicode's blocks, as far as they have letters of these scripts;
what is no letter there is left out before, and all else is `Script.other`."""


def _table() -> tuple[np.ndarray, np.ndarray]:
    starts, scripts = [0], [Script.other]
    for first, last, script in _RANGES:
        starts += [first, last + 1]
        scripts += [script, Script.other]
    return np.array(starts, np.uint32), np.array(scripts, np.uint8)


_START, _SCRIPT = _table()


def script_of(text: str) -> Script:
    """Return the script of more than half of a text's letters.

    Letters are Unicode's (its categories L…), by the blocks they stand in; marks, digits, symbols
    and emoji do not count. Han letters beside kana count as kana, see `JAPANESE_KANA`.
    """
    if text.isascii():  # nearly all texts of most pools; one look is enough
        return Script.latin if text.lower() != text.upper() else Script.none
    letters = "".join(filter(str.isalpha, text))
    if not letters:
        return Script.none
    points = np.frombuffer(letters.encode("utf-32-le"), "<u4")
    places = np.searchsorted(_START, points, side="right") - 1
    counts = np.bincount(_SCRIPT[places], minlength=len(Script))
    japanese = counts[Script.han] + counts[Script.kana]
    if counts[Script.kana] and counts[Script.kana] >= JAPANESE_KANA * japanese:
        counts[Script.kana], counts[Script.han] = japanese, 0
    top = int(counts.argmax())
    return Script(top) if 2 * counts[top] > len(letters) else Script.mixed
