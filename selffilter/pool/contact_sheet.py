"""A picture of some samples with their captions: what numbers about a pool do not show."""

from __future__ import annotations

import textwrap
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from selffilter.pool.captions import CaptionKey
from selffilter.pool.decoding import decode_image
from selffilter.pool.failures import Failure, UnusableSample
from selffilter.pool.index import Pool
from selffilter.pool.row_reader import RowReader, captions_in, members_read, size_limits
from selffilter.randomness import draw

_TILE, _GAP, _LINES, _LINE = 192, 12, 4, 16
_FAULT = "#b04000"
_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSans-Regular.ttf",
    "DejaVuSans.ttf",
    "Arial Unicode.ttf",
    "Arial.ttf",
)
"""Fonts with many scripts; where none is installed, PIL's own draws boxes for other than Latin."""


class Shown(NamedTuple):
    """A sample on the sheet.

    Attributes:
        image: None if it cannot be used.
        text: Its captions, or the reason.
    """

    image: Image.Image | None
    text: str


def read_samples(
    pool: Pool, count: int, *, max_pixels: int, max_bytes: int, seed: int = 0
) -> list[Shown]:
    """Draw samples of a pool, usable or not, and read them.

    Args:
        pool: The pool.
        count: How many; fewer if it holds fewer.
        max_pixels: Images with more are refused.
        max_bytes: Image files with more are not read.
        seed: Of the draw.

    Raises:
        StoreGone: If a shard cannot be read.
    """
    rows_N = draw(np.arange(pool.rows, dtype=np.int64), min(count, pool.rows), seed, "sheet")
    return read_rows(pool, rows_N, max_pixels=max_pixels, max_bytes=max_bytes)


def read_rows(
    pool: Pool, rows_N: NDArray[np.int64], *, max_pixels: int, max_bytes: int
) -> list[Shown]:
    """Read some rows of a pool, usable or not, in the order asked; see `read_samples`."""
    key = CaptionKey.parse(pool.caption_key)
    reader = RowReader(pool, limits=size_limits(max_bytes))
    members = members_read(key)
    shown = []
    for row in rows_N.tolist():
        try:
            image, *texts = reader.read(np.array([row]), members)[0]
            if image is None:
                raise UnusableSample(Failure.missing_image)
            captions = captions_in(key, texts)
            shown.append(Shown(decode_image(image, max_pixels), " | ".join(captions)))
        except UnusableSample as verdict:
            shown.append(Shown(None, reader.failure(row, verdict.failure).name))
    return shown


def draw_sheet(samples: list[Shown], columns: int = 8) -> Image.Image:
    """Draw samples side by side, each with the first lines of its captions below it."""
    columns = max(1, min(columns, len(samples)))
    width, height = _TILE + _GAP, _TILE + _LINES * _LINE + _GAP
    rows = -(-len(samples) // columns)
    sheet = Image.new("RGB", (_GAP + columns * width, _GAP + rows * height), "white")
    pen, font = ImageDraw.Draw(sheet), _font()
    for place, (image, text) in enumerate(samples):
        x = _GAP + place % columns * width
        y = _GAP + place // columns * height
        pen.rectangle((x - 1, y - 1, x + _TILE, y + _TILE), outline="#dddddd", fill="#f4f4f4")
        if image is not None:
            fitted = ImageOps.contain(image, (_TILE, _TILE))
            sheet.paste(fitted, (x + (_TILE - fitted.width) // 2, y + (_TILE - fitted.height) // 2))
        for number, line in enumerate(_lines(text, font)):
            colour = "#222222" if image is not None else _FAULT
            pen.text((x, y + _TILE + 3 + number * _LINE), line, fill=colour, font=font)
    return sheet


def _lines(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """Break a text to the width of a tile: a character of another script may be twice as wide."""
    printable = "".join(c if c.isprintable() else " " for c in text[:400])
    per_line = max(4, int(_TILE / max(1.0, font.getlength(printable) / max(1, len(printable)))))
    lines = textwrap.wrap(
        printable, per_line, max_lines=_LINES, placeholder=" …", break_on_hyphens=False
    )
    while any(font.getlength(line) > _TILE for line in lines) and per_line > 4:
        per_line -= 1
        lines = textwrap.wrap(
            printable, per_line, max_lines=_LINES, placeholder=" …", break_on_hyphens=False
        )
    return lines


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    for name in _FONTS:
        try:
            return ImageFont.truetype(name, 12)
        except OSError:
            continue
    return ImageFont.load_default(12)
