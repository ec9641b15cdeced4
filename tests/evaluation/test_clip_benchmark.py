"""The same numbers as CLIP_benchmark, on the clip-art that comes with the package.

Needs ``pip install 'selffilter[evaluation-check]'``; see docs/evaluation.md.
"""

import io
import json

import numpy as np
import open_clip
import pyarrow.parquet as pq
import pytest
import torch

from selffilter.clip.checkpoint import open_checkpoint
from selffilter.clip.model import export
from selffilter.evaluation.evaluate import EvaluationSettings, evaluate
from selffilter.evaluation.sets import EvaluationSet
from selffilter.pool.decoding import decode_image
from selffilter.pool.demo import ASSETS

pytest.importorskip("clip_benchmark", reason="CLIP_benchmark is not installed")

BATCH = 64


@pytest.fixture(scope="module")
def cliparts():
    samples = pq.read_table(ASSETS / "openclipart_eval.parquet").slice(0, 250).to_pylist()
    return samples, json.loads((ASSETS / "openclipart_eval.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory, recipe, cliparts):
    """A tiny model as both open it, after a minute of school: it must not guess one class only."""
    torch.manual_seed(0)
    model, (samples, texts) = recipe.build(), cliparts
    names = recipe.tokenize([f"a drawing of {name}" for name in texts["classnames"]])
    transform = recipe.transform()
    images = torch.stack([transform(decode_image(s["image"], 10**6)) for s in samples])
    classes = torch.tensor([s["cls"] for s in samples])
    adam = torch.optim.Adam(model.parameters(), lr=5e-4)
    for part in torch.randperm(250 * 8).remainder(250).split(50):
        features = model.encode_image(images[part], normalize=True)
        logits = 14 * features @ model.encode_text(names, normalize=True).T
        adam.zero_grad()
        torch.nn.functional.cross_entropy(logits, classes[part]).backward()
        adam.step()
    home = tmp_path_factory.mktemp("model") / "final"
    export(home, recipe, model.state_dict())
    return home


@pytest.fixture
def classes(cliparts):
    return {
        "classnames": cliparts[1]["classnames"],
        "zeroshot_classification_templates": cliparts[1]["templates"],
    }


@pytest.fixture
def ours(folder):
    checkpoint = open_checkpoint(str(folder))

    def run(home):
        settings = EvaluationSettings(batch_size=BATCH)
        return evaluate(checkpoint.model, checkpoint.recipe, EvaluationSet(str(home)), settings)

    return run


@pytest.fixture
def theirs(folder):
    from clip_benchmark.datasets.builder import build_dataset
    from clip_benchmark.metrics import zeroshot_classification, zeroshot_retrieval

    name = f"local-dir:{folder}"
    model, _, transform = open_clip.create_model_and_transforms(name)
    tokenizer = open_clip.get_tokenizer(name)

    def run(home, task):
        data = build_dataset(f"wds/{home.name}", str(home), transform, task=f"zeroshot_{task}")
        loader = torch.utils.data.DataLoader(data.batched(BATCH), batch_size=None)
        common = {"device": "cpu", "amp": False}
        if task == "retrieval":
            return zeroshot_retrieval.evaluate(
                model.eval(), loader, tokenizer, recall_k_list=[1, 5, 10], **common
            )
        return zeroshot_classification.evaluate(
            model.eval(), loader, tokenizer, data.classes, data.templates, **common
        )

    return run


def assert_equal(found, expected):
    assert {name: found.metrics[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert 0 < max(expected.values()) < 1


def test_classification_is_equal(ours, theirs, write_set, cliparts, classes, tmp_path):
    members = [{"webp": s["image"], "cls": str(s["cls"]).encode()} for s in cliparts[0]]
    home = write_set(tmp_path / "art", members, shards=2, **classes)
    expected = theirs(home, "classification")
    assert set(expected) == {"acc1", "acc5", "mean_per_class_recall"}
    assert_equal(ours(home), expected)


def test_several_labels_an_image_are_equal(
    ours, theirs, write_set, cliparts, classes, npy, tmp_path
):
    rng = np.random.default_rng(0)
    members = []
    for sample in cliparts[0]:
        labels = (rng.random(len(classes["classnames"])) < 0.1).astype(np.int64)
        labels[sample["cls"]] = 1
        members.append({"webp": sample["image"], "npy": npy(labels)})
    home = write_set(tmp_path / "labels", members, dataset_type=["multilabel"], **classes)
    expected = theirs(home, "classification")
    assert set(expected) == {"mean_average_precision"}
    assert_equal(ours(home), expected)


def test_retrieval_is_equal(ours, theirs, write_set, cliparts, tmp_path):
    """One to three captions a picture, none twice: CLIP_benchmark leaves ties to chance."""
    names = cliparts[1]["classnames"]
    members, seen = [], set()
    for number, sample in enumerate(cliparts[0]):
        if sample["image"] in seen:
            continue
        seen.add(sample["image"])
        lines = [f"{names[sample['cls']]} number {number} {way}" for way in ("", "seen", "drawn")]
        text = "\n".join(lines[: 1 + number % 3])
        members.append({"webp": sample["image"], "txt": text.encode()})
    home = write_set(tmp_path / "pairs", members, shards=3, dataset_type=["retrieval"])
    expected = theirs(home, "retrieval")
    assert len(expected) == 6
    assert_equal(ours(home), expected)


def test_clip_benchmark_takes_png_with_the_same_pixels(ours, theirs, write_set, classes, tmp_path):
    """A picture without transparency and rotation is decoded alike, whatever its form."""
    from PIL import Image

    rng = np.random.default_rng(3)
    members = []
    for number in range(60):
        out = io.BytesIO()
        pixels = rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(["RGB", "L", "P"][number % 3]).save(out, "PNG")
        members.append({"png": out.getvalue(), "cls": str(number % 5).encode()})
    home = write_set(tmp_path / "noise", members, **classes)
    expected = theirs(home, "classification")
    found = ours(home)
    assert {name: found.metrics[name] for name in expected} == pytest.approx(expected)
