"""From the bytes of an image file to an RGB image, or a reason why not."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from selffilter.pool.failures import Failure, UnusableSample

# Only these decoders ever see a pool's bytes: PIL's list holds old and rarely tested ones.
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "gif")
MAX_SCANS = 200
"""A progressive JPEG is painted over once a scan. Cameras and encoders write about ten; a small
file can ask for thousands, each over all of its pixels."""


def decode_image(data: bytes, max_pixels: int, *, at_least: int | None = None) -> Image.Image:
    """Decode to RGB: upright by EXIF, transparency on white, the first frame of an animation.

    The format goes by the bytes, whatever the member was called. Colour profiles are not applied,
    as nowhere in open_clip.

    Args:
        data: The bytes of a JPEG, PNG, WebP or GIF.
        max_pixels: More pixels than this are refused before any is decoded.
        at_least: A JPEG may be decoded at a half, a quarter or an eighth of its size, the smallest
            whose shorter side has as many pixels as this: faster, and other pixels. None: at its
            full size.

    Raises:
        UnusableSample: With the reason.
        MemoryError: If an image of an allowed size does not fit: no fault of the sample's.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=IMAGE_FORMATS)
            if image.width * image.height > max_pixels:
                raise UnusableSample(Failure.image_too_large, f"{image.width}x{image.height}")
            if image.format == "PNG":
                _settle_transparent_colour(image)
            elif image.format in ("JPEG", "MPO"):
                _refuse_many_scans(data)
                if at_least is not None:
                    # The scale goes by the lesser of both ratios: by the shorter side.
                    image.draft(None, (at_least, at_least))
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return _on_white(image)
    except (UnusableSample, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise UnusableSample(Failure.image_too_large, str(error)) from error
    except UnidentifiedImageError as error:
        raise UnusableSample(Failure.image_unreadable, str(error)) from error
    except OSError as error:
        truncated = "truncated" in str(error).lower()
        failure = Failure.image_truncated if truncated else Failure.image_unreadable
        raise UnusableSample(failure, str(error)) from error
    except Exception as error:  # decoders raise SyntaxError, struct.error, … on hostile bytes
        raise UnusableSample(Failure.image_unreadable, repr(error)) from error


def _refuse_many_scans(data: bytes) -> None:
    # Inside the coded pixels a byte FF is always followed by 00 or a restart marker.
    scans = data.count(b"\xff\xda")
    if scans > MAX_SCANS:
        raise UnusableSample(Failure.image_unreadable, f"{scans} scans")


def _settle_transparent_colour(image: ImageFile) -> None:
    """State the transparent colour of a PNG at the depth to which PIL brings the pixels.

    As the file has it, it stands at the file's depth, and meets no pixel or a wrong one: seen with
    pillow 13.0.
    """
    colour = image.info.get("transparency")
    depth = image.tile[0].args if image.tile else ""
    if isinstance(colour, tuple) and depth == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in colour)
    elif isinstance(colour, int) and depth in ("L;2", "L;4"):
        image.info["transparency"] = min(colour * {"L;2": 85, "L;4": 17}[depth], 255)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = _from_16_bit(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        with_alpha = image.convert("RGBA")
        white = Image.new("RGBA", with_alpha.size, "white")
        image = Image.alpha_composite(white, with_alpha)
    return image.convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey: PIL's own conversion clips instead."""
    colour = image.info.pop("transparency", None)
    grey = image.point(lambda value: value * (1 / 257)).convert("L")
    if colour is None:
        return grey
    alpha = Image.fromarray(np.where(np.asarray(image) == colour, 0, 255).astype(np.uint8))
    return Image.merge("LA", (grey, alpha))
