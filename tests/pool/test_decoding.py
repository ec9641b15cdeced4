import io
import mmap
import struct
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from torchvision.io import ImageReadMode
from torchvision.io import decode_image as decode

from selffilter.pool.decoding import MAX_SCANS, decode_image
from selffilter.pool.failures import Failure, UnusableSample

LIMIT = 10_000


def encoded(image, form, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def png_chunk(kind, data):
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def raw_png(width, height, depth, pixels, colour_type=2, extra=b""):
    """Return a PNG as its format has it, whatever PIL can write; of colour type 2, RGB."""
    about = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = png_chunk(b"IDAT", zlib.compress(pixels))
    head = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", about) + extra
    return head + body + png_chunk(b"IEND", b"")


def webp_canvas(width, height):
    """Return an animated WebP: one frame of a pixel on a canvas."""

    def chunk(kind, data):
        return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

    def u24(value):
        return struct.pack("<I", value)[:3]

    pixel = encoded(Image.new("RGB", (1, 1), "red"), "WEBP", lossless=True)[12:]
    frame = chunk(b"ANMF", u24(0) * 4 + u24(100) + b"\0" + pixel)
    about = chunk(b"VP8X", b"\x02\0\0\0" + u24(width - 1) + u24(height - 1))
    body = b"WEBP" + about + chunk(b"ANIM", b"\0" * 6) + frame
    return b"RIFF" + struct.pack("<I", len(body)) + body


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


@pytest.mark.parametrize("ink", [(0, 255, 255, 0), (10, 60, 200, 0), (0, 0, 0, 128)])
def test_an_adobe_ycck_jpeg_has_the_colours_of_its_inks(ink):
    """PIL writes none: the mark of a CMYK one is changed, so that its planes count as Y, Cb, Cr.

    Adobe stores inks inverted, 255 - ink; a decoder turns the first three planes to RGB, and these
    are 255 - C, M, Y as it is to be (libjpeg.txt, "Special color spaces").
    """
    planes = 255 - np.array(ink)
    data = bytearray(encoded(Image.new("CMYK", (16, 16), ink), "JPEG", quality=100, subsampling=0))
    mark = data.index(b"Adobe")
    assert data[mark + 11] == 0
    data[mark + 11] = 2
    y, cb, cr = planes[0], planes[1] - 128, planes[2] - 128
    rgb = np.array([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb])
    # As stored the planes are C', M', Y' = 255 - rgb, inverted back to inks C, M, Y = rgb.
    expected = (255 - np.clip(rgb, 0, 255)) * planes[3] / 255
    assert np.abs(decoded(bytes(data)).reshape(-1, 3) - expected).max() <= 3


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpegs_decode_as_in_another_decoder(mode, progressive):
    smooth = Image.fromarray(noise(8, 8)).resize((64, 48), Image.Resampling.BICUBIC).convert(mode)
    data = encoded(smooth, "JPEG", quality=90, progressive=progressive)
    theirs = torchvision_rgb(data)
    assert np.abs(decoded(data).astype(int) - theirs).max() <= 3
    assert theirs.std() > 20


@pytest.mark.parametrize(
    ("mode", "form"),
    [("RGB", "PNG"), ("L", "PNG"), ("P", "PNG"), ("RGB", "WEBP"), ("RGB", "GIF"), ("L", "GIF")],
)
def test_other_formats_decode_as_in_another_decoder(mode, form):
    image = Image.fromarray(noise()).convert(mode)
    options = {"lossless": True} if form == "WEBP" else {}
    data = encoded(image, form, **options)
    np.testing.assert_array_equal(decoded(data), torchvision_rgb(data))


def torchvision_rgb(data):
    buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    return decode(buffer, mode=ImageReadMode.RGB).permute(1, 2, 0).numpy().astype(int)


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


@pytest.mark.parametrize(
    ("depth", "pixels", "colour", "expected"),
    [
        (1, bytes([0b01000000]), 0, [255, 255]),
        (2, bytes([0b01100000]), 2, [85, 255]),
        (4, bytes([0x3C]), 12, [51, 255]),
        (8, bytes([128, 12]), 12, [128, 255]),
        (16, struct.pack(">HH", 257, 4660), 4660, [1, 255]),
        (16, struct.pack(">HH", 4661, 4660), 4661, [255, 18]),
    ],
)
def test_a_transparent_grey_is_found_at_every_depth(depth, pixels, colour, expected):
    stated = png_chunk(b"tRNS", struct.pack(">H", colour))
    data = raw_png(2, 1, depth, b"\0" + pixels, colour_type=0, extra=stated)
    assert decoded(data)[0, :, 0].tolist() == expected


def test_a_transparent_colour_is_found_at_16_bit():
    pixels = b"\0" + struct.pack(">6H", 257, 32768, 65535, 4, 5, 6)
    stated = png_chunk(b"tRNS", struct.pack(">3H", 257, 32768, 65535))
    assert decoded(raw_png(2, 1, 16, pixels, extra=stated))[0].tolist() == [[255] * 3, [0] * 3]


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
    plain = decoded(encoded(Image.fromarray(pixels), "JPEG"))
    turned = decoded(encoded(Image.fromarray(pixels), "JPEG", exif=exif))
    np.testing.assert_array_equal(turned, upright(plain))


def test_damaged_exif_does_not_lose_the_image():
    data = encoded(Image.fromarray(noise()), "JPEG", exif=b"Exif\0\0garbage" * 9)
    assert decoded(data).shape == (16, 24, 3)


def test_an_animation_is_its_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue", "lime")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert Image.open(io.BytesIO(data)).n_frames == 3
    assert (decoded(data) == [255, 0, 0]).all()


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_of_a_million_frames_the_first_is_decoded(form):
    """The bytes of the others are no image: whoever touched them would say so."""
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if form == "WEBP" else {}
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    if form == "GIF":
        second = data.rindex(b"\x2c\0\0\0\0")
        data = data[:second] + b"\x2c" * 10**6
    assert (decoded(data) == [255, 0, 0]).all()


def test_pictures_of_phones_that_hold_several_are_the_first_of_them():
    pictures = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    data = encoded(pictures[0], "MPO", save_all=True, append_images=pictures[1:])
    assert data.startswith(b"\xff\xd8\xff")
    assert np.abs(decoded(data).astype(int) - [255, 0, 0]).max() <= 3
    assert decode_image(data, LIMIT, at_least=8).size == (8, 8)


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


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(raw_png(100_000, 100_000, 8, b"\0"), id="png"),
        pytest.param(webp_canvas(9000, 9000), id="webp"),
        pytest.param(b"GIF89a\xff\xff\xff\xff" + b"\0" * 3 + b"\x2c" + b"\0" * 9, id="gif"),
        pytest.param(
            b"\xff\xd8\xff\xc0\0\x11\x08" + b"\xff\xff\xff\xff\x03" + b"\1\x11\0" * 3, id="jpeg"
        ),
    ],
)
def test_a_header_that_promises_too_much_costs_no_memory(data):
    with little_memory():
        assert verdict(data) in (Failure.image_too_large, Failure.image_unreadable)


def test_a_header_that_promises_more_than_there_is_is_refused():
    data = raw_png(900, 900, 8, b"\0" * 100)
    assert verdict(data, 10**6) == Failure.image_truncated
    assert decoded(webp_canvas(3, 2)).shape == (2, 3, 3)


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"iTXt"])
def test_a_gzip_bomb_beside_the_pixels_is_not_blown_up(kind):
    head = {b"zTXt": b"k\0\0", b"iCCP": b"k\0\0", b"iTXt": b"k\0\1\0\0\0"}[kind]
    bomb = png_chunk(kind, head + zlib.compress(b"a" * 200_000_000))
    data = raw_png(1, 1, 8, b"\0\1\2\3", extra=bomb)
    assert len(data) < 300_000
    with little_memory():
        assert verdict(data) == Failure.image_unreadable


def test_pixels_beyond_the_last_row_are_not_unpacked():
    pixels = zlib.compress(b"\0\1\2\3" * 50_000_000)
    data = raw_png(1, 1, 8, b"\0\1\2\3").replace(
        png_chunk(b"IDAT", zlib.compress(b"\0\1\2\3")), png_chunk(b"IDAT", pixels)
    )
    with little_memory():
        assert decoded(data).tolist() == [[[1, 2, 3]]]


def test_a_jpeg_that_is_painted_over_without_end_is_refused():
    data = encoded(Image.fromarray(noise()), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    again = data[:last] + data[last:-2] * MAX_SCANS + data[-2:]
    assert decoded(data).shape == (16, 24, 3)
    assert verdict(again) == Failure.image_unreadable


@contextmanager
def little_memory(most=50_000_000):
    """Check that the peak of this process's memory inside is not far above what it was before."""
    status, peak = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    try:
        peak.write_text("5")  # sets the peak back to what is in use now
    except OSError:
        pytest.skip("this system does not tell how much memory was used")

    def kilobytes(name):
        return int(status.read_text().split(name + ":")[1].split()[0])

    before = kilobytes("VmRSS")
    yield
    assert (kilobytes("VmHWM") - before) * 1024 < most


def test_the_check_of_memory_sees_what_is_used():
    with pytest.raises(AssertionError), little_memory(), mmap.mmap(-1, 100_000_000) as fresh:
        # Not from the heap, which may have that much to spare from earlier tests.
        fresh.write(bytes(100_000_000))


def test_running_out_of_memory_is_no_fault_of_the_image(monkeypatch):
    def run_out(self):
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", run_out)
    with pytest.raises(MemoryError):
        decode_image(encoded(Image.fromarray(noise()), "PNG"), LIMIT)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF"])
def test_the_bytes_say_what_it_is_and_not_the_name(form):
    """There is no name to be misled by: a member's extension does not reach the decoder."""
    assert decoded(encoded(Image.fromarray(noise()), form)).shape == (16, 24, 3)


@pytest.mark.parametrize(
    ("size", "at_least", "expected"),
    [
        ((640, 480), 480, (640, 480)),
        ((640, 480), 241, (640, 480)),
        ((640, 480), 240, (320, 240)),
        ((480, 640), 121, (240, 320)),
        ((641, 483), 120, (161, 121)),
        ((640, 480), 60, (80, 60)),
        ((640, 480), 7, (80, 60)),
        ((4000, 100), 50, (2000, 50)),
        ((30, 20), 224, (30, 20)),
    ],
)
def test_a_reduced_jpeg_is_the_smallest_that_is_large_enough(size, at_least, expected):
    data = encoded(Image.new("RGB", size, "teal"), "JPEG")
    assert decode_image(data, 10**6, at_least=at_least).size == expected
    assert min(expected) >= min(at_least, *size)


def test_a_reduced_jpeg_shows_the_same():
    smooth = Image.fromarray(noise(12, 8)).resize((480, 320), Image.Resampling.BICUBIC)
    data = encoded(smooth, "JPEG", quality=95)
    reduced = decode_image(data, 10**6, at_least=80)
    plain = decode_image(data, 10**6).resize((120, 80), Image.Resampling.BOX)
    assert reduced.size == plain.size
    difference = np.abs(np.asarray(reduced).astype(int) - np.asarray(plain))
    assert 0 < difference.mean() < 2


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF"])
def test_other_formats_are_not_reduced(form):
    image = Image.fromarray(noise(64, 64))
    np.testing.assert_array_equal(
        np.asarray(decode_image(encoded(image, form), LIMIT, at_least=8)),
        decoded(encoded(image, form)),
    )


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_reduced_jpeg_is_upright_too(mode):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.new(mode, (64, 32)), "JPEG", exif=exif)
    image = decode_image(data, LIMIT, at_least=8)
    assert (image.size, image.mode) == ((8, 16), "RGB")


def test_too_many_pixels_are_too_many_before_they_are_reduced():
    data = encoded(Image.new("RGB", (200, 200)), "JPEG")
    with pytest.raises(UnusableSample) as caught:
        decode_image(data, 200 * 200 - 1, at_least=8)
    assert caught.value.failure == Failure.image_too_large


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
