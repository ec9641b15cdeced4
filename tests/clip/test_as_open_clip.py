"""A pool's rows reach the model as open_clip's own loader would bring them.

That loader (`open_clip_train.data`) decodes with webdataset's ``pilrgb`` and applies the transforms
that `create_model_and_transforms` returns.
"""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import webdataset
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from selffilter.clip.model import export, find_recipe
from selffilter.pool.base import Base
from selffilter.pool.decoding import decode_image
from selffilter.pool.index import Pool, build_index
from selffilter.pool.reading import BatchRequest, PoolDataset
from selffilter.scoring.pool_pass import PoolPass
from selffilter.scoring.signals.cosine import Cosine
from selffilter.tables import read_table, shard_file

TINY = Path(__file__).parent.parent.parent / "configs" / "models" / "tiny.json"
ORDINARY = {
    "rgb.jpg": ("RGB", {"quality": 80}),
    "progressive.jpg": ("RGB", {"progressive": True}),
    "grey.jpg": ("L", {}),
    "cmyk.jpg": ("CMYK", {}),
    "rgb.png": ("RGB", {}),
    "grey.png": ("L", {}),
    "black-and-white.png": ("1", {}),
    "palette.png": ("P", {}),
    "lossy.webp": ("RGB", {"quality": 60}),
    "lossless.webp": ("RGB", {"lossless": True}),
    "palette.gif": ("P", {}),
}


def drawing(seed, size):
    pixels = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def encoded(image, name, **options):
    out = io.BytesIO()
    form = {"jpg": "JPEG"}.get(name.rpartition(".")[2], name.rpartition(".")[2].upper())
    image.save(out, form, **options)
    return out.getvalue()


@pytest.fixture(scope="module")
def recipe():
    return find_recipe(str(TINY))


@pytest.fixture(scope="module")
def theirs(recipe, tmp_path_factory):
    """Model, training transform and evaluation transform, as open_clip opens an export."""
    folder = tmp_path_factory.mktemp("export")
    torch.manual_seed(0)
    export(folder, recipe, recipe.build().state_dict())
    return open_clip.create_model_and_transforms(f"local-dir:{folder}")


@pytest.fixture
def tar(make_tar, tmp_path):
    """All kinds of ordinary images, landscape and portrait, larger and smaller than the model's."""
    samples = []
    for seed, (name, (mode, options)) in enumerate(ORDINARY.items()):
        size = [(70, 50), (41, 90), (20, 24)][seed % 3]
        key, _, extension = name.rpartition(".")
        data = encoded(drawing(seed, size).convert(mode), name, **options)
        samples.append((key + str(seed), {extension: data, "txt": f" caption {seed}\n".encode()}))
    return make_tar(tmp_path / "pool" / "0.tar", samples)


@pytest.fixture
def pool(tar, tmp_path):
    return Pool(tmp_path / "index", build_index([str(tar.parent)], tmp_path / "index"))


def by_open_clip(tar, transform):
    """Return the images and captions of a tar by open_clip's pipeline."""
    pipeline = (
        webdataset.WebDataset(str(tar), shardshuffle=False, empty_check=False)
        .decode("pilrgb")
        .rename(image="jpg;png;jpeg;webp;gif", text="txt")
        .map_dict(image=transform)
    )
    samples = list(pipeline)
    assert len(samples) == len(ORDINARY)
    return torch.stack([s["image"] for s in samples]), [s["text"] for s in samples]


def test_the_transform_of_evaluation_gives_the_same_tensors(tar, pool, recipe, theirs):
    dataset = PoolDataset(pool, recipe.transform(), recipe.tokenize, max_pixels=10**6)
    batch = dataset[BatchRequest(np.arange(pool.rows))]
    assert batch["valid"].all()
    images, texts = by_open_clip(tar, theirs[2])
    assert torch.equal(batch["image"], images)
    assert torch.equal(batch["text"], recipe.tokenize(texts))
    assert images.std() > 0.5


def test_the_transform_of_training_gives_the_same_tensors_with_the_same_random_numbers(
    tar, recipe, theirs
):
    ours = recipe.transform(crop_scale=0.9)  # open_clip's own default

    def both(image):
        torch.manual_seed(7)
        their_image = theirs[1](image)
        again = theirs[1](image)
        torch.manual_seed(7)
        our_image = ours(image)
        assert torch.equal(our_image, their_image)
        return torch.tensor(not torch.equal(again, their_image))

    differ, _ = by_open_clip(tar, both)
    assert differ.any()  # the crop is random where more than one fits into the image


def test_cosines_are_those_of_open_clip(tar, pool, recipe, theirs, tmp_path):
    model = theirs[0].eval()
    images, texts = by_open_clip(tar, theirs[2])
    with torch.no_grad():
        image_features = model.encode_image(images, normalize=True)
        text_features = model.encode_text(open_clip.get_tokenizer(recipe.name)(texts), True)
    expected = (image_features * text_features).sum(-1)

    ours = recipe.build()
    ours.load_state_dict(model.state_dict())
    dataset = PoolDataset(
        pool, recipe.transform(), recipe.tokenize, max_pixels=10**6, every_caption=True
    )
    scored = tmp_path / "scores"
    everything = Base(pool, 0, 0.0, 0)
    PoolPass(
        ours.eval(), dataset, everything, {"cosine": Cosine()}, batch_size=4, workers=0
    ).score_shards([0], scored, 0, None)
    found = torch.tensor(read_table(shard_file(scored, 0))["cosine"].to_numpy())
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)
    assert expected.std() > 1e-3


def test_we_differ_where_open_clip_ignores_transparency_and_orientation():
    """On purpose: docs/decoding.md."""

    def as_open_clip(data):
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    see_through = encoded(Image.new("RGBA", (2, 2), (0, 0, 0, 0)), "a.png")
    assert (as_open_clip(see_through) == 0).all()
    assert (np.asarray(decode_image(see_through, 100)) == 255).all()
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = encoded(drawing(0, (8, 4)), "a.jpg", exif=exif)
    assert np.array_equal(np.rot90(as_open_clip(lying), -1), np.asarray(decode_image(lying, 100)))
    deep = encoded(Image.fromarray(np.full((1, 1), 32768, np.uint16)), "a.png")
    assert as_open_clip(deep)[0, 0, 0] == 255
    assert np.asarray(decode_image(deep, 100))[0, 0, 0] == 127


@pytest.mark.parametrize("size", [32, (32, 32), (24, 32)])
def test_no_pixel_of_a_reduced_image_is_made_up(size, recipe):
    """The transforms only ever shrink an image whose shorter side is as large as is needed."""
    sized = replace(recipe, preprocess=recipe.preprocess | {"size": size})
    assert sized.image_size == 32
    assert sized.shorter_side_needed() == 32
    torch.manual_seed(0)
    for crop_scale in (0.9, 0.5, 0.08):
        side = sized.shorter_side_needed(crop_scale=crop_scale)
        crop = sized.transform(crop_scale=crop_scale).transforms[0]
        assert isinstance(crop, RandomResizedCrop)
        smallest = [
            min(min(crop.get_params(image, crop.scale, crop.ratio)[2:]) for _ in range(2000))
            for image in (
                Image.new("RGB", shape)
                for shape in ((side, side), (side, side * 5 // 4), (2 * side, side))
            )
        ]
        assert min(smallest) >= 32
        assert smallest[0] <= 32 * 1.1
