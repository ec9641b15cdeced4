"""A picture of a caption shows its words, whole and as large as there is room for."""

import io

import numpy as np
import pytest
from PIL import Image

from selffilter.pool.decoding import decode_image
from selffilter.pool.noise import Texts
from selffilter.pool.noise.text_in_image import can_be_printed, picture_of, print_captions


def ink_of(caption, size=(64, 64), extension="png", key=0):
    """(H, W) bool: where the picture is not paper."""
    pixels = np.asarray(decode_image(picture_of(caption, size, extension, key), 10**7), np.int64)
    return np.abs(pixels - pixels[0, 0]).sum(axis=-1) > 60


@pytest.mark.parametrize(
    ("extension", "form"), [("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP"), ("gif", "GIF")]
)
def test_format_and_size_are_those_asked_for(extension, form):
    image = Image.open(io.BytesIO(picture_of("a cat", (80, 50), extension, 0)))
    assert (image.format, image.size) == (form, (80, 50))


@pytest.mark.parametrize("caption", ["cat", "a black cat", "Part of the Flat Icon Collection 2004"])
@pytest.mark.parametrize("size", [(64, 64), (200, 64), (64, 150), (300, 300)])
def test_the_words_stand_inside_the_frame(caption, size):
    ink = ink_of(caption, size)
    edge = np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]])
    assert ink.any() and not edge.any()


def test_letters_are_as_large_as_there_is_room_for():
    few, many = ink_of("cat"), ink_of("a cat with a hat on a mat in a flat")
    assert np.ptp(np.flatnonzero(few.any(axis=0))) > 40  # one word fills the width
    gap = np.diff(np.flatnonzero(~many.any(axis=1)))
    assert (gap > 1).sum() >= 3  # several lines


def test_other_words_make_another_picture_and_the_same_make_the_same():
    assert (ink_of("cat") != ink_of("dog")).any()
    assert picture_of("cat", (64, 64), "webp", 3) == picture_of("cat", (64, 64), "webp", 3)
    assert picture_of("cat", (64, 64), "webp", 3) != picture_of("cat", (64, 64), "webp", 4)


def test_ink_can_be_told_from_paper():
    for key in range(40):
        grey = np.asarray(
            decode_image(picture_of("HHH", (64, 64), "png", key), 10**6).convert("L"), np.int64
        )
        assert np.ptp(grey) > 100


@pytest.mark.parametrize(
    ("caption", "size"),
    [("word " * 400_000, (64, 64)), ("w" * 2_000_000, (64, 64)), ("a cat", (1, 1)),
     ("a cat", (3, 400)), ("a cat", (400, 2))],
)  # fmt: skip
def test_what_has_no_room_is_printed_as_far_as_it_goes(caption, size):
    assert decode_image(picture_of(caption, size, "png", 0), 10**6).size == size


@pytest.mark.parametrize(
    ("caption", "can"),
    [("a cat", True), ("12", True), ("кот", False), ("café", False), ("!!", False), ("", False)],
)
def test_only_what_the_font_has_is_printed(caption, can):
    assert can_be_printed(caption) is can


def test_rows_are_free_ones_that_can_be_printed_and_whose_image_is_usable():
    texts = Texts([("a cat", "кот")[i % 2] for i in range(200)])
    free = np.arange(100, dtype=np.int64)
    asked = []

    def is_usable(row):
        asked.append(row)
        return row % 4 == 0

    part = print_captions(texts, free, 10, 0, is_usable)
    assert len(part.rows_n) == 10 and set((part.rows_n % 4).tolist()) == {0}
    assert part.captions == ["a cat"] * 10 and (part.source_n == -1).all()
    assert len(asked) < 50
    everything = print_captions(texts, free, 80, 0, is_usable)
    assert sorted(everything.rows_n.tolist()) == list(range(0, 100, 4))
