"""An image for new shards: smaller, or untouched."""

import io

import numpy as np
import pytest
from PIL import Image

from selffilter.pool.failures import Failure, UnusableSample
from selffilter.pool.materialise.pictures import make_picture
from selffilter.pool.materialise.settings import ShardSettings


def decoded(picture):
    return Image.open(io.BytesIO(picture.data))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
def test_without_resizing_bytes_stay_as_they_are_and_sides_are_known(picture, form):
    data = picture(form=form)
    made = make_picture(data, ShardSettings())
    assert made.data == data
    assert made[1:] == ({"JPEG": "jpg"}.get(form, form.lower()), 12, 10, 12, 10)


@pytest.mark.parametrize(
    ("size", "becomes"), [((40, 30), (21, 16)), ((30, 40), (16, 21)), ((16, 999), (16, 999))]
)
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_the_shorter_side_shrinks_to_so_many_pixels_and_the_format_stays(
    picture, size, becomes, form
):
    data = picture(size=size, form=form)
    made = make_picture(data, ShardSettings(resize=16))
    assert (made.width, made.height) == decoded(made).size == becomes
    assert (made.original_width, made.original_height) == size
    assert decoded(made).format == form
    assert (made.data == data) == (size == becomes)


def test_an_image_never_grows(picture):
    assert make_picture(picture(), ShardSettings(resize=300)).data == picture()


@pytest.mark.parametrize("form", ["jpg", "webp"])
def test_another_format_is_encoded_anew_also_where_nothing_shrinks(picture, form):
    made = make_picture(picture(), ShardSettings(format=form))
    assert made.extension == form and decoded(made).size == (12, 10)
    again = make_picture(made.data, ShardSettings(format=form, quality=5))
    assert again.data == made.data  # what is there already is left alone


def test_quality_decides_how_much_is_kept(picture):
    data = picture(size=(64, 64))
    small, large = (make_picture(data, ShardSettings(format="jpg", quality=q)) for q in (10, 95))
    assert len(small.data) < len(large.data) / 2


def test_what_shrinks_is_the_picture_a_reader_would_see(picture):
    flat = Image.new("RGBA", (64, 48), (200, 0, 0, 0))  # transparent: white
    out = io.BytesIO()
    flat.save(out, "PNG")
    made = make_picture(out.getvalue(), ShardSettings(resize=24))
    assert np.asarray(decoded(made).convert("RGB")).min() == 255
    turned = Image.new("RGB", (64, 48))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    out = io.BytesIO()
    turned.save(out, "JPEG", exif=exif)
    made = make_picture(out.getvalue(), ShardSettings(resize=24))
    assert decoded(made).size == (24, 32) and not decoded(made).getexif()


def test_an_animation_becomes_a_picture_without_loss(picture):
    made = make_picture(picture(size=(40, 30), form="GIF"), ShardSettings(resize=15))
    assert (made.extension, decoded(made).format, decoded(made).size) == ("png", "PNG", (20, 15))


@pytest.mark.parametrize("settings", [ShardSettings(), ShardSettings(resize=4)])
def test_what_is_no_image_or_too_large_a_one_has_its_reason(picture, settings):
    with pytest.raises(UnusableSample) as verdict:
        make_picture(b"nothing", settings)
    assert verdict.value.failure == Failure.image_unreadable
    small = ShardSettings(resize=settings.resize, max_image_pixels=119)
    with pytest.raises(UnusableSample) as verdict:
        make_picture(picture(), small)
    assert verdict.value.failure == Failure.image_too_large


def test_a_truncated_image_is_found_where_images_are_decoded(picture):
    data = picture(form="JPEG", size=(64, 64))[:-400]
    assert make_picture(data, ShardSettings()).data == data
    with pytest.raises(UnusableSample) as verdict:
        make_picture(data, ShardSettings(resize=200))
    assert verdict.value.failure == Failure.image_truncated


def test_a_side_too_long_for_the_format_is_a_reason_too(picture):
    with pytest.raises(UnusableSample) as verdict:
        make_picture(picture(size=(20_000, 2)), ShardSettings(format="webp"))
    assert verdict.value.failure == Failure.image_too_large
