"""Encoding an image that takes the place of another, in the format of that one."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

_FORMS: dict[str, str] = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF"}


def encode_image(image: Image.Image, extension: str, share: float) -> bytes:
    """Encode an image.

    Args:
        image: RGB.
        extension: ``jpg``, ``png``, ``webp`` or ``gif``.
        share: In [0, 1): where the quality lies between 55 and 95, if the format has one.
    """
    lossy: dict[str, Any] = {"quality": 55 + round(40 * share)}
    out = io.BytesIO()
    image.save(out, _FORMS[extension], **(lossy if extension in ("jpg", "webp") else {}))
    return out.getvalue()
