"""Small evaluation sets, and a tiny model that tells noise apart."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from selffilter.clip.model import find_recipe

TINY = Path(__file__).parent.parent.parent / "configs" / "models" / "tiny.json"
CLASSES = ["red fox", "barn", "sea", "oak tree", "mug", "old car", "moon"]
TEMPLATES = ["a photo of a {c}.", "{c}", "the {c} and the other {c}"]


def as_npy(array):
    """Return the bytes of a .npy file."""
    out = io.BytesIO()
    np.save(out, np.asarray(array), allow_pickle=True)
    return out.getvalue()


def write_texts(home, **texts):
    home.mkdir(parents=True, exist_ok=True)
    for name, lines in texts.items():
        (home / f"{name}.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def npy():
    return as_npy


@pytest.fixture
def write_set(make_tar):
    """Return what writes a set: samples as ``{extension: bytes}``, some to a tar, and texts."""

    def write(home, samples, shards=1, split="test", **texts):
        named = [(f"s{i:07d}", members) for i, members in enumerate(samples)]
        size = -(-len(named) // shards)
        for shard in range(shards):
            part = named[shard * size : (shard + 1) * size]
            make_tar(home / split / f"{shard}.tar", part)
        (home / split / "nshards.txt").write_text(f"{shards}\n")
        write_texts(home, **texts)
        return home

    return write


@pytest.fixture
def write_classification(write_set):
    def write(home, samples, **texts):
        class_texts = {"classnames": CLASSES, "zeroshot_classification_templates": TEMPLATES}
        return write_set(home, samples, **(class_texts | texts))

    return write


@pytest.fixture
def drawings(picture):
    """Forty pictures, their classes unevenly many."""
    classes = np.random.default_rng(0).choice(6, 40, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.1])
    return [(picture(i, (40, 30)), int(class_)) for i, class_ in enumerate(classes)]


@pytest.fixture
def drawings_set(write_classification, drawings, tmp_path):
    """The drawings in two tars, with three samples among them that cannot be used."""
    members = [{"png": image, "cls": str(c).encode()} for image, c in drawings]
    members[3:3] = [{"png": b"broken", "cls": b"1"}, {"png": drawings[0][0]}, {"cls": b"1"}]
    return write_classification(tmp_path / "drawings", members, shards=2)


@pytest.fixture
def captions(drawings):
    """One to three captions a drawing."""
    return [[f"drawing {i} of {j}" for j in range(1 + i % 3)] for i in range(len(drawings))]


@pytest.fixture
def caption_set(write_set, drawings, captions, tmp_path):
    """The drawings as a retrieval set in two tars."""
    members = [
        {"png": image, "txt": "\n".join(of_image).encode()}
        for (image, _), of_image in zip(drawings, captions, strict=True)
    ]
    return write_set(tmp_path / "captions", members, shards=2, dataset_type=["retrieval"])


@pytest.fixture
def association_sample(picture):
    """Return what makes a sample: seed, how many candidates, which of them are associated."""

    def make(seed, candidates, associated):
        ids = [f"image {n}" for n in range(candidates)]
        about = {
            "cue": ["Apple", "wolf", "idea"][seed % 3],
            "candidates": ids,
            "associations": [ids[n] for n in associated],
        }
        images = {f"{n}.png": picture(100 * seed + n, (20, 20)) for n in range(candidates)}
        return {"json": json.dumps(about).encode(), **images}

    return make


@pytest.fixture(scope="session")
def recipe():
    return find_recipe(str(TINY))


@pytest.fixture(scope="session")
def model(recipe):
    torch.manual_seed(0)
    model = recipe.build().eval()
    with torch.no_grad():  # so that pictures of noise are told apart
        model.visual.conv1.weight.mul_(20)
        model.text_projection[:, 0] *= 30  # and that some prompts are longer than others
    return model
