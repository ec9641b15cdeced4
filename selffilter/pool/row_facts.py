"""What is written down of a row while its bytes are at hand: each a function of the bytes alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selffilter.pool.script import script_of
from selffilter.tables import FACTS

_FACTS: dict[str, Callable[[str, bytes], int]] = {
    "caption_chars": lambda caption, image: len(caption),
    "script": lambda caption, image: script_of(caption),
    "image_hash": lambda caption, image: image_hash(image),
}


def facts_named(hash_images: bool) -> tuple[str, ...]:
    """Return which of `tables.FACTS` are gathered; the image's hash only if it is asked for."""
    return tuple(name for name in FACTS.names if hash_images or name != "image_hash")


def facts_of(names: Sequence[str], caption: str, image: bytes) -> tuple[int, ...]:
    """Return the facts of a usable row, each fit for an int64 (a hash by its 64 bits).

    Args:
        names: Some of `tables.FACTS`.
        caption: The row's first caption.
        image: Its image file.
    """
    return tuple(_FACTS[name](caption, image) for name in names)


def facts_columns(names: Sequence[str], facts_NF: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return the facts of rows by name, each (N,) of its type in `tables.FACTS`.

    Args:
        names: What `facts_of` was given, F names.
        facts_NF: What it returned for each row, (N, F) int64.
    """
    return {
        name: facts_NF[:, place].astype(FACTS.field(name).type.to_pandas_dtype())
        for place, name in enumerate(names)
    }


def image_hash(image: bytes) -> int:
    """Return the hash of an image file: equal files have equal ones, wherever they stand.

    BLAKE2b with a digest of 8 bytes (RFC 7693), read as a little-endian int64; 1 where that is 0,
    which tables say of a row whose hash nobody knows.
    """
    digest = hashlib.blake2b(image, digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True) or 1
