"""Why a row of embeddings cannot be used."""

from __future__ import annotations

import enum


class Unusable(enum.IntEnum):
    """Why a row of embeddings cannot be used; stored as uint8, beside `Failure`'s codes."""

    none = 0
    image_not_finite = 65
    image_zero = 66
    text_not_finite = 67
    text_zero = 68
