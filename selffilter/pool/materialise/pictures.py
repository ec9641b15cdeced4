"""An image for the new shards: as it is, or smaller and encoded anew."""

from __future__ import annotations

import io
import warnings
from typing import NamedTuple

from PIL import Image

from selffilter.pool.decoding import IMAGE_FORMATS, decode_image
from selffilter.pool.failures import Failure, UnusableSample
from selffilter.pool.materialise.settings import ShardSettings
from selffilter.pool.writing import image_extension


class Picture(NamedTuple):
    """An encoded image.

    Attributes:
        data: Its bytes.
        extension: ``jpg``, ``png``, ``gif`` or ``webp``.
        width: In pixels.
        height: In pixels.
        original_width: In the source.
        original_height: In the source.
    """

    data: bytes
    extension: str
    width: int
    height: int
    original_width: int
    original_height: int


def make_picture(data: bytes, settings: ShardSettings) -> Picture:
    """Shrink and encode an image as the settings say.

    An image that is small enough, in the format asked for, stays as it is to the byte. The others
    become RGB, upright, on white (see `decoding.decode_image`); a GIF that has to shrink becomes a
    PNG, since it is no animation any more.

    Raises:
        UnusableSample: If it is no image; if images are decoded, also if it cannot be.
    """
    extension = image_extension(data)
    if not settings.decodes:
        width, height = _size(data, settings.max_image_pixels)
        return Picture(data, extension, width, height, width, height)
    image = decode_image(data, settings.max_image_pixels)
    width, height = image.size
    shorter = min(width, height)
    wanted = extension if settings.format == "keep" else settings.format
    if wanted == extension and (settings.resize is None or shorter <= settings.resize):
        return Picture(data, extension, width, height, width, height)
    if settings.resize is not None and shorter > settings.resize:
        scale = settings.resize / shorter
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = image.resize(size, Image.Resampling.BICUBIC)
    wanted = "png" if wanted == "gif" else wanted
    return Picture(
        _encode(image, wanted, settings.quality), wanted, image.width, image.height, width, height
    )


def _encode(image: Image.Image, extension: str, quality: int) -> bytes:
    out = io.BytesIO()
    try:
        if extension == "png":
            image.save(out, "PNG")
        else:
            image.save(out, {"jpg": "JPEG", "webp": "WEBP"}[extension], quality=quality)
    except (OSError, ValueError) as error:  # a side is longer than the format can say
        raise UnusableSample(Failure.image_too_large, str(error)) from error
    return out.getvalue()


def _size(data: bytes, max_pixels: int) -> tuple[int, int]:
    """Return width and height by the header alone."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            size = Image.open(io.BytesIO(data), formats=IMAGE_FORMATS).size
    except Image.DecompressionBombError as error:
        raise UnusableSample(Failure.image_too_large, str(error)) from error
    except Exception as error:  # see decode_image
        raise UnusableSample(Failure.image_unreadable, repr(error)) from error
    if size[0] * size[1] > max_pixels:
        raise UnusableSample(Failure.image_too_large, f"{size[0]}x{size[1]}")
    return size
