"""From bytes to an RGB image and a caption, or a reason why not."""

from __future__ import annotations

import io
import json
import warnings

from PIL import Image, ImageOps, UnidentifiedImageError

from selffilter.pool.failures import Failure, UnusableSample

# Only these decoders ever see a pool's bytes: PIL's list holds old and rarely tested ones.
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")


def decode_image(data: bytes, max_pixels: int) -> Image.Image:
    """Decode to RGB: upright by EXIF, transparency on white, the first frame of an animation.

    Args:
        data: The bytes of a JPEG, PNG, WebP or GIF.
        max_pixels: More pixels than this are refused before any is decoded.

    Raises:
        UnusableSample: With the reason.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=IMAGE_FORMATS)
            if image.width * image.height > max_pixels:
                raise UnusableSample(Failure.image_too_large, f"{image.width}x{image.height}")
            image.load()
            return _on_white(ImageOps.exif_transpose(image))
    except UnusableSample:
        raise
    except Image.DecompressionBombError as error:
        raise UnusableSample(Failure.image_too_large, str(error)) from error
    except UnidentifiedImageError as error:
        raise UnusableSample(Failure.image_unreadable, str(error)) from error
    except OSError as error:
        truncated = "truncated" in str(error)
        failure = Failure.image_truncated if truncated else Failure.image_unreadable
        raise UnusableSample(failure, str(error)) from error
    except Exception as error:  # decoders raise SyntaxError, struct.error, … on hostile bytes
        raise UnusableSample(Failure.image_unreadable, repr(error)) from error


def decode_caption(data: bytes, caption_key: str) -> str:
    """Decode a caption from its member's bytes.

    Args:
        data: The bytes of the member.
        caption_key: "txt" for the text itself, "json:FIELD" for a string field of a json object.

    Raises:
        UnusableSample: With the reason.
    """
    _, _, name = caption_key.partition(":")
    try:
        text = data.decode("utf-8")
        if name:
            text = json.loads(text)[name]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnusableSample(Failure.caption_unreadable, repr(error)) from error
    if not isinstance(text, str):
        raise UnusableSample(Failure.caption_unreadable, f"{name} is a {type(text).__name__}")
    if not text.strip():
        raise UnusableSample(Failure.caption_empty)
    return text


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey: PIL's own conversion clips instead of scaling
        image = image.point(lambda value: value * (1 / 257)).convert("L")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        with_alpha = image.convert("RGBA")
        white = Image.new("RGBA", with_alpha.size, "white")
        image = Image.alpha_composite(white, with_alpha)
    return image.convert("RGB")
