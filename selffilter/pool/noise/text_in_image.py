"""Images that show the words of their own caption, and nothing else.

A model that has learnt to read finds such a pair a perfect match.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from selffilter.pool.noise.encoding import encode_image
from selffilter.pool.noise.planted import Part
from selffilter.pool.noise.texts import Texts
from selffilter.randomness import shuffled, uniform

_LARGEST, _SMALLEST = 0.5, 6
"""Height of the letters: at most this share of the image's height, at least so many pixels."""
_SMALLER = 0.85
_LINE = 1.2
_MARGIN = 0.05
_MAX_CHARACTERS = 2000
"""More than these cannot be seen in any image; a pool may hold a caption of a million."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def print_captions(
    texts: Texts,
    free_M: NDArray[np.int64],
    count: int,
    seed: int,
    is_usable: Callable[[int], bool] = lambda _: True,
) -> Part:
    """Choose the rows whose image is replaced by their caption.

    Args:
        texts: The pool.
        free_M: (M,) int64, rows that noise may be planted in.
        count: How many; fewer if fewer can be printed.
        seed: Same seed, same noise.
        is_usable: Whether a row's image can be replaced; asked of no more than need be.
    """
    rows: list[int] = []
    for row in shuffled(free_M, seed, "text in image").tolist():
        if len(rows) == count:
            break
        if can_be_printed(texts.captions[row]) and is_usable(row):
            rows.append(row)
    captions = [texts.captions[row] for row in rows]
    return Part(np.array(rows, dtype=np.int64), captions, np.full(len(rows), -1, dtype=np.int64))


def can_be_printed(caption: str) -> bool:
    """Whether the font has all characters of a caption, and there is a letter or digit."""
    return caption.isascii() and any(map(str.isalnum, caption))


def picture_of(caption: str, size: tuple[int, int], extension: str, *key: int | str) -> bytes:
    """Print a caption in one dark colour on a pale one, or the reverse, and encode it.

    The letters are as large as the image allows. Where even small ones leave no room for all words,
    the last are left out.

    Args:
        caption: See `can_be_printed`.
        size: Width and height in pixels.
        extension: See `encoding.encode_image`.
        *key: Same key, same bytes (with one version of Pillow).
    """
    dark_hue, pale_hue, swapped, quality = uniform(np.arange(4), "text in image", *key)
    ink, paper = f"hsl({int(360 * dark_hue)},60%,20%)", f"hsl({int(360 * pale_hue)},60%,90%)"
    if swapped < 0.5:
        ink, paper = paper, ink
    image = Image.new("RGB", size, paper)
    lines, pixels = _laid_out(caption[:_MAX_CHARACTERS].split(), size)
    pen, font = ImageDraw.Draw(image), _font(pixels)
    top = max(0.0, (size[1] - _LINE * pixels * len(lines)) / 2)
    for number, line in enumerate(lines):
        left = max(0.0, (size[0] - font.getlength(line)) / 2)
        pen.text((left, top + _LINE * pixels * number), line, fill=ink, font=font)
    return encode_image(image, extension, quality)


def _laid_out(words: list[str], size: tuple[int, int]) -> tuple[list[str], int]:
    """Return the lines and the height of their letters in pixels."""
    width, height = (side * (1 - 2 * _MARGIN) for side in size)
    pixels = max(_SMALLEST, int(_LARGEST * size[1]))
    while True:
        font = _font(pixels)
        room = max(1, int(height / (_LINE * pixels)))
        smallest = pixels == _SMALLEST
        lines = _broken(words, font, width, room, inside_words=smallest)
        if lines is not None and (smallest or len(lines) <= room):
            return lines[:room], pixels
        pixels = max(_SMALLEST, int(_SMALLER * pixels))


def _broken(
    words: list[str], font: Font, width: float, room: int, *, inside_words: bool
) -> list[str] | None:
    """Break words into lines, as many as there is room for and one more; None if one is too long.

    Words that are too long are broken too if they may be.
    """
    lines: list[str] = []
    left = list(reversed(words))
    while left and len(lines) <= room:
        word = left.pop()
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        elif font.getlength(word) <= width or len(word) == 1:
            lines.append(word)
        elif inside_words:
            fits = max(
                n for n in range(1, len(word)) if n == 1 or font.getlength(word[:n]) <= width
            )
            lines.append(word[:fits])
            left.append(word[fits:])
        else:
            return None
    return lines


@lru_cache(64)
def _font(pixels: int) -> Font:
    # Made from text each time it is asked for: most of the time that a small picture takes.
    return ImageFont.load_default(pixels)
