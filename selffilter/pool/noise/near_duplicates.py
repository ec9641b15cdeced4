"""A flood of near-duplicates: a few images that stand in the pool many times, hardly changed.

The pairs are true, but redundant. Rows are taken over, so the pool keeps its size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from selffilter.pool.noise.encoding import encode_image
from selffilter.pool.noise.planted import Part, nothing
from selffilter.pool.noise.texts import Texts, words_of
from selffilter.randomness import draw, shuffled, uniform

COPIES_PER_SOURCE = 50
_MAX_CROP = 0.04
_MAX_RESIZE = 1.25
_MAX_BRIGHTNESS = 1.1
MAX_SIDE = int(16_383 / _MAX_RESIZE)
"""Pixels a side of an image that can be copied in any format: WebP has the lowest limit."""


@dataclass(frozen=True)
class Flood:
    """Near-duplicates and what they were made of.

    Attributes:
        part: The rows taken over.
        sources_S: (S,) int64, the rows they copy; these stay as they are.
    """

    part: Part
    sources_S: NDArray[np.int64]


def flood(
    texts: Texts,
    free_M: NDArray[np.int64],
    count: int,
    seed: int,
    copies_per_source: float = COPIES_PER_SOURCE,
    is_usable: Callable[[int], bool] = lambda _: True,
) -> Flood:
    """Choose which rows become near-duplicates of which.

    The k-th source is copied in proportion to 1/k, each at least once.

    Args:
        texts: The pool.
        free_M: (M,) int64, rows that noise may be planted in; sources are drawn from these too.
        count: How many; fewer if fewer are free beside the sources.
        seed: Same seed, same noise.
        copies_per_source: On average, at least 1.
        is_usable: Whether a row's image can be copied; asked of few rows.
    """
    wanted = max(1, round(min(count, len(free_M)) / copies_per_source))
    sources: list[int] = []
    for row in shuffled(free_M, seed, "flood").tolist():
        if len(sources) == wanted:
            break
        if is_usable(row):
            sources.append(row)
    sources_S = np.array(sources, dtype=np.int64)
    rest = np.setdiff1d(free_M, sources_S, assume_unique=True)
    taken = draw(rest, min(count, len(rest)), seed, "taken over")
    sources_S = sources_S[: len(taken)]
    if not len(sources_S):
        return Flood(nothing(), sources_S)
    taken = shuffled(taken, seed, "copies")
    source_n = np.repeat(sources_S, _long_tailed(len(taken), len(sources_S)))
    captions = [
        vary_caption(texts.captions[source], which)
        for source, which in zip(source_n.tolist(), uniform(taken, seed, "vary"), strict=True)
    ]
    return Flood(Part(taken, captions, source_n), sources_S)


def _long_tailed(total: int, parts: int) -> NDArray[np.int64]:
    """Split a total into parts in proportion to 1/k, each at least 1."""
    ends = np.cumsum(1 / np.arange(1, parts + 1))
    ends = np.floor(ends / ends[-1] * (total - parts) + 0.5).astype(np.int64)
    ends[-1] = total - parts
    return 1 + np.diff(ends, prepend=0)


def vary_caption(caption: str, which: float) -> str:
    """Return a caption as copies of a page have it: mostly the same, or almost.

    Args:
        caption: Of the source.
        which: In [0, 1). Below .6: unchanged; then in lower case, in capitals, with a full stop,
            with a counter.
    """
    if which < 0.6:
        return caption
    counter = 2 + int(1000 * which) % 8
    varied = {
        6: caption.lower(), 7: caption.upper(), 8: f"{caption}.", 9: f"{caption} ({counter})",
    }[int(10 * which)]  # fmt: skip
    # Some letters have capitals of another normal form.
    return varied if words_of(caption) <= words_of(varied) else caption


def vary_image(image: Image.Image, extension: str, *key: int | str) -> bytes:
    """Crop, resize, brighten or darken a little, and encode again.

    Args:
        image: RGB.
        extension: See `encoding.encode_image`.
        *key: Same key, same bytes (with one version of Pillow).
    """
    left, top, right, bottom, size, light, quality = uniform(np.arange(7), "near-duplicate", *key)
    width, height = image.size
    image = image.crop(
        (
            round(width * _MAX_CROP * left),
            round(height * _MAX_CROP * top),
            max(1, width - round(width * _MAX_CROP * right)),
            max(1, height - round(height * _MAX_CROP * bottom)),
        )
    )
    factor = _MAX_RESIZE ** (2 * size - 1)
    image = image.resize(
        (max(1, round(image.width * factor)), max(1, round(image.height * factor))),
        Image.Resampling.BICUBIC,
    )
    image = ImageEnhance.Brightness(image).enhance(_MAX_BRIGHTNESS ** (2 * light - 1))
    return encode_image(image, extension, quality)
