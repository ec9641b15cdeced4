import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from selffilter.pool.decoding import decode_caption, decode_image
from selffilter.pool.failures import Failure, UnusableSample

LIMIT = 10_000


def encoded(image, form, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def raw_png(width, height, depth, pixels):
    """Return an RGB PNG as its format has it, whatever PIL can write."""

    def chunk(kind, data):
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(pixels))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def noise(width=24, height=16, channels=3):
    shape = (height, width, channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def decoded(data, limit=LIMIT):
    image = decode_image(data, limit)
    assert image.mode == "RGB"
    return np.asarray(image)


def verdict(data, limit=LIMIT):
    with pytest.raises(UnusableSample) as caught:
        decode_image(data, limit)
    return caught.value.failure


@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_lossless_pixels_come_out_as_they_went_in(form, options):
    pixels = noise()
    np.testing.assert_array_equal(
        decoded(encoded(Image.fromarray(pixels), form, **options)), pixels
    )


def test_a_cmyk_jpeg_has_the_colours_of_its_inks():
    # No ink but black's absence: cyan ink alone takes the red away.
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    pixels = decoded(encoded(cyan, "JPEG", quality=95))
    assert np.abs(pixels.reshape(-1, 3).astype(int) - [0, 255, 255]).max() <= 4


def test_a_palette_with_a_transparent_colour_lies_on_white():
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 0, 255, 0, 255, 0])
    image.putdata([0, 1, 2])
    pixels = decoded(encoded(image, "PNG", transparency=1))
    assert pixels[0].tolist() == [[255, 0, 0], [255, 255, 255], [0, 255, 0]]


def test_a_palette_with_alpha_values_is_blended_with_white():
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 0, 0, 0])
    image.putdata([0, 1])
    pixels = decoded(encoded(image, "PNG", transparency=bytes([255, 51])))
    assert pixels[0].tolist() == [[0] * 3, [204] * 3]


@pytest.mark.parametrize(("mode", "colour"), [("RGBA", (0, 0, 255, 0)), ("LA", (7, 0))])
def test_what_is_transparent_is_white(mode, colour):
    assert (decoded(encoded(Image.new(mode, (4, 4), colour), "PNG")) == 255).all()


def test_half_transparent_is_half_white():
    pixels = decoded(encoded(Image.new("RGBA", (1, 1), (200, 0, 0, 102)), "PNG"))
    expected = [102 / 255 * c + 153 / 255 * 255 for c in (200, 0, 0)]
    assert np.abs(pixels[0, 0] - expected).max() <= 1


def test_16_bit_grey_is_scaled_not_clipped():
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    pixels = decoded(encoded(Image.fromarray(values), "PNG"))
    assert np.abs(pixels[0, :, 0].astype(int) - [0, 1, 128, 255]).max() <= 1
    assert (pixels == pixels[:, :, :1]).all()


def test_16_bit_colour_is_scaled():
    pixels = decoded(raw_png(1, 1, 16, b"\0" + struct.pack(">HHH", 0, 32896, 65535)))
    assert np.abs(pixels[0, 0].astype(int) - [0, 128, 255]).max() <= 1


@pytest.mark.parametrize(("mode", "colour"), [("1", 1), ("L", 90), ("P", 0)])
def test_other_modes_become_rgb(mode, colour):
    assert decoded(encoded(Image.new(mode, (4, 3), colour), "PNG")).shape == (3, 4, 3)


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (4, np.flipud),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a, 2).transpose(1, 0, 2)),
        (8, np.rot90),
    ],
)
def test_exif_says_what_is_upright(orientation, upright):
    pixels = noise()
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(pixels), "PNG", exif=exif)
    np.testing.assert_array_equal(decoded(data), upright(pixels))


def test_damaged_exif_does_not_lose_the_image():
    data = encoded(Image.fromarray(noise()), "JPEG", exif=b"Exif\0\0garbage" * 9)
    assert decoded(data).shape == (16, 24, 3)


def test_an_animation_is_its_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue", "lime")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert Image.open(io.BytesIO(data)).n_frames == 3
    assert (decoded(data) == [255, 0, 0]).all()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_an_image_that_is_cut_off_is_refused(form, share):
    data = encoded(Image.fromarray(noise(90, 90)), form)
    failure = verdict(data[: int(share * len(data))])
    assert failure in (Failure.image_truncated, Failure.image_unreadable)
    if form == "JPEG":
        assert failure == Failure.image_truncated


@pytest.mark.parametrize(
    "data",
    [b"", b"this is text in a file named .jpg", b"<svg/>", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"],
)
def test_what_is_no_image_is_unreadable(data):
    assert verdict(data) == Failure.image_unreadable


@pytest.mark.parametrize("form", ["TIFF", "BMP", "PPM", "ICO", "TGA"])
def test_formats_that_no_pool_needs_are_not_decoded(form):
    assert verdict(encoded(Image.fromarray(noise()), form)) == Failure.image_unreadable


def test_too_many_pixels_are_refused_before_any_is_decoded():
    data = encoded(Image.new("1", (200, 51)), "PNG")
    assert verdict(data, 10_000) == Failure.image_too_large
    assert decoded(data, 200 * 51).shape == (51, 200, 3)
    # The payload is gone; only the header is needed for the verdict.
    assert verdict(data[:60], 10_000) == Failure.image_too_large


def test_a_decompression_bomb_is_too_large_whatever_the_limit():
    assert verdict(raw_png(60_000, 60_000, 8, b"\0"), 10**12) == Failure.image_too_large


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF"])
def test_hostile_bytes_end_in_a_verdict_or_an_image_and_nothing_else(form):
    rng = np.random.default_rng(0)
    good = np.frombuffer(encoded(Image.fromarray(noise()), form), np.uint8)
    verdicts = 0
    for _ in range(60):
        bad = good.copy()
        places = rng.integers(0, len(bad), 8)
        bad[places] = rng.integers(0, 256, 8)
        try:
            assert decode_image(bad.tobytes(), LIMIT).mode == "RGB"
        except UnusableSample as caught:
            verdicts += caught.failure != Failure.none
    assert verdicts > 5


def test_a_caption_is_the_text_of_its_member():
    assert decode_caption("ein Käse, 干酪\n".encode(), "txt") == "ein Käse, 干酪\n"


def test_a_caption_may_be_a_field_of_a_json():
    data = json.dumps({"text": "a dog", "caption": "a cat"}).encode()
    assert decode_caption(data, "json:caption") == "a cat"


@pytest.mark.parametrize("data", [b"", b"  \n\t", "\u3000".encode()])
def test_an_empty_caption_is_refused(data):
    with pytest.raises(UnusableSample) as caught:
        decode_caption(data, "txt")
    assert caught.value.failure == Failure.caption_empty


@pytest.mark.parametrize(
    ("data", "key"),
    [
        (b"\xff\xfe", "txt"),
        (b"not json", "json:caption"),
        (b"{}", "json:caption"),
        (b'["caption"]', "json:caption"),
        (b'"caption"', "json:caption"),
        (b'{"caption": 3}', "json:caption"),
        (b'{"caption": null}', "json:caption"),
        (b"[" * 100_000, "json:caption"),
    ],
)
def test_a_caption_that_cannot_be_read_is_refused(data, key):
    with pytest.raises(UnusableSample) as caught:
        decode_caption(data, key)
    assert caught.value.failure == Failure.caption_unreadable
