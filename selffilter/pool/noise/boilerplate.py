"""Captions that a web site put there and that say nothing of the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from selffilter.pool.noise.planted import Part
from selffilter.pool.noise.texts import Texts, words_of
from selffilter.randomness import draw, hash_rows, uniform

TEMPLATES = (
    "Click to enlarge",
    "image {part} of {whole}",
    "DSC_{number:04d}.JPG",
    "No description available",
    "Part of the {name} collection",
    "IMG_{year}{month:02d}{day:02d}_{number:04d}",
    "Untitled",
    "Photo by admin",
    "thumbnail",
    "Share on Facebook",
    "Slide {part}",
    "Free shipping on all orders",
)
"""The most frequent first: the k-th is drawn in proportion to 1/k."""

_NAMES = ("Classic", "Spring", "Summer", "Premium", "Member", "Basic", "2019", "Archive")


def add_boilerplate(texts: Texts, free_M: NDArray[np.int64], count: int, seed: int) -> Part:
    """Replace the captions of rows drawn from those that are free.

    Args:
        texts: The pool.
        free_M: (M,) int64, rows that noise may be planted in.
        count: How many; fewer if fewer are free.
        seed: Same seed, same noise.
    """
    rows_n = draw(free_M, min(count, len(free_M)), seed, "boilerplate")
    tail = np.cumsum(1 / np.arange(1, len(TEMPLATES) + 1))
    which_n = np.searchsorted(tail / tail[-1], uniform(rows_n, seed, "template"), side="right")
    counter_n = hash_rows(rows_n, seed, "counter")
    captions = [
        _other_than(texts.captions[row], int(which), int(counter))
        for row, which, counter in zip(rows_n, which_n, counter_n, strict=True)
    ]
    return Part(rows_n, captions, np.full(len(rows_n), -1, dtype=np.int64))


def _other_than(caption: str, which: int, counter: int) -> str:
    """Fill a template; the next one where the caption already has all its words."""
    known = words_of(caption)
    made = (
        _fill(TEMPLATES[(which + further) % len(TEMPLATES)], counter)
        for further in range(len(TEMPLATES))
    )
    return next((text for text in made if not words_of(text) <= known), TEMPLATES[0])


def _fill(template: str, counter: int) -> str:
    whole = 2 + counter % 19
    return template.format(
        part=1 + (counter >> 8) % whole,
        whole=whole,
        number=(counter >> 16) % 10_000,
        name=_NAMES[(counter >> 32) % len(_NAMES)],
        year=2005 + (counter >> 36) % 20,
        month=1 + (counter >> 44) % 12,
        day=1 + (counter >> 52) % 28,
    )
