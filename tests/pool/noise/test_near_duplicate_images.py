import io

import numpy as np
import pytest
from PIL import Image

from selffilter.pool.decoding import decode_image
from selffilter.pool.noise.near_duplicates import vary_image


@pytest.fixture
def drawing():
    """A smooth picture that is not symmetric."""
    y, x = np.mgrid[0:60, 0:80] / 80
    pixels = np.stack([255 * x, 255 * y, 200 * (x > 0.5)], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def as_array(image, size=(20, 15)):
    return np.asarray(image.convert("RGB").resize(size), dtype=np.float64)


@pytest.mark.parametrize(
    ("extension", "form"), [("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP"), ("gif", "GIF")]
)
def test_a_copy_looks_like_its_source_in_the_format_of_the_row_it_takes_over(
    drawing, extension, form
):
    data = vary_image(drawing, extension, 0, 1)
    assert Image.open(io.BytesIO(data)).format == form
    copy = decode_image(data, 10**6)
    assert np.abs(as_array(copy) - as_array(drawing)).mean() < 25
    mirrored = as_array(drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert np.abs(as_array(copy) - mirrored).mean() > 50


def test_copies_differ_from_each_other_in_size_crop_and_light(drawing):
    copies = [decode_image(vary_image(drawing, "png", 0, row), 10**6) for row in range(30)]
    assert len({copy.size for copy in copies}) > 15
    means = [as_array(copy).mean() for copy in copies]
    assert max(means) - min(means) > 8
    assert all(0.7 * 80 < copy.width < 1.3 * 80 for copy in copies)


def test_the_same_key_gives_the_same_bytes(drawing):
    assert vary_image(drawing, "webp", 3, 4) == vary_image(drawing, "webp", 3, 4)
    assert vary_image(drawing, "webp", 3, 4) != vary_image(drawing, "webp", 3, 5)
    assert vary_image(drawing, "webp", 3, 4) != vary_image(drawing, "webp", 4, 4)


def test_an_image_of_one_pixel_can_be_copied():
    for row in range(20):
        copy = decode_image(vary_image(Image.new("RGB", (1, 1)), "png", 0, row), 100)
        assert copy.size == (1, 1)
