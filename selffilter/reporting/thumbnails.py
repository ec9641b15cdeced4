"""Samples as the page shows them: small pictures as data, captions made harmless."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ImageOps

from selffilter.errors import StoreGone, UserError
from selffilter.plain_text import clipped
from selffilter.pool.contact_sheet import Shown, read_rows
from selffilter.pool.index import Pool
from selffilter.rundir.on_disk import RunOnDisk

SIDE = 96
"""Of a thumbnail, at most, in pixels."""
PAGE_IMAGE_BYTES = 2_600_000
"""Of all thumbnails together, as files; as text in the page they take a third more."""
_MOST_BYTES = 9000
_QUALITIES = ((SIDE, 80), (SIDE, 60), (SIDE, 35), (64, 35), (48, 20))
_AT_ONCE = 64


@dataclass(frozen=True)
class Tile:
    """A sample that can be shown.

    Attributes:
        picture: A ``data:`` URL; None: there is none to show.
        width: Of the picture, in pixels.
        height: Likewise.
        caption: Its captions, harmless as text, not as markup; or why it cannot be used.
    """

    picture: str | None
    width: int
    height: int
    caption: str


def read_tiles(
    run: RunOnDisk,
    rows: NDArray[np.int64],
    on_each: Callable[[int], None] = lambda _: None,
    image_bytes: int = PAGE_IMAGE_BYTES,
) -> tuple[dict[int, Tile], str]:
    """Read samples and make thumbnails of them, all of them together within a bound.

    Args:
        run: Whose pool they are of.
        rows: Which rows; one that stands there twice is read once.
        on_each: Called with the number of rows just read.
        image_bytes: Of all pictures together, at most.

    Returns:
        Row → what is shown of it; and why rows are missing, "" if none is.
    """
    unique = np.unique(rows)
    most_bytes = min(_MOST_BYTES, image_bytes // max(1, len(unique)))
    bounds = run.config.pool
    found: dict[int, Tile] = {}
    try:
        _refuse_changed(run.pool, unique, bounds.allow_pipe)
        for begin in range(0, len(unique), _AT_ONCE):
            part = unique[begin : begin + _AT_ONCE]
            shown = read_rows(
                run.pool,
                part,
                max_pixels=bounds.max_image_pixels,
                max_bytes=bounds.max_image_bytes,
            )
            for row, sample in zip(part.tolist(), shown, strict=True):
                found[row] = as_tile(sample, most_bytes)
            on_each(len(part))
    except (UserError, StoreGone, OSError) as error:
        return found, str(error)
    return found, ""


def as_tile(sample: Shown, most_bytes: int) -> Tile:
    """Shrink a sample's picture until it takes few enough bytes."""
    caption = clipped(sample.text)
    if sample.image is None:
        return Tile(None, 0, 0, caption)
    for side, quality in _QUALITIES:
        small = sample.image
        if max(small.size) > side:
            small = ImageOps.contain(small, (side, side))
        out = io.BytesIO()
        small.save(out, "WEBP", quality=quality, method=4)
        if out.tell() <= most_bytes:
            text = base64.b64encode(out.getvalue()).decode()
            return Tile(f"data:image/webp;base64,{text}", *small.size, caption)
    return Tile(None, 0, 0, caption)


def _refuse_changed(pool: Pool, rows: NDArray[np.int64], allow_pipe: bool) -> None:
    """Check the shards that are about to be read, and no others.

    Raises:
        UserError: If one is not what was indexed, or may not be read.
    """
    pool.refuse_pipes(allow_pipe)
    shards = np.unique(pool.shard_of(rows)).tolist()
    for shard, what in pool.changed_shards(shards=shards):
        raise UserError(f"shard {pool.location(shard)} is not what was indexed: {what}.")
