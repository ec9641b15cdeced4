import io
import json

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from selffilter.errors import UserError
from selffilter.evaluation.evaluate import EvaluationSettings, evaluate
from selffilter.evaluation.sets import EvaluationSet


def run(model, recipe, home, **settings):
    return evaluate(model, recipe, EvaluationSet(str(home)), EvaluationSettings(**settings))


class Plain:
    """One picture and one text after another, as open_clip's own documentation does it."""

    def __init__(self, model):
        self.model = model
        _, _, self.transform = open_clip.create_model_and_transforms("tiny")
        self.tokenizer = open_clip.get_tokenizer("tiny")

    def image(self, data):
        pixels = self.transform(Image.open(io.BytesIO(data)).convert("RGB"))
        with torch.no_grad():
            return self.model.encode_image(pixels[None], normalize=True)[0]

    def text(self, text):
        with torch.no_grad():
            return self.model.encode_text(self.tokenizer([text]), normalize=True)[0]


@pytest.fixture(scope="module")
def plain(model):
    return Plain(model)


@pytest.fixture
def weights(plain, classes, templates):
    means = [
        torch.stack([plain.text(template.replace("{c}", name)) for template in templates]).mean(0)
        for name in classes
    ]
    return torch.stack([mean / mean.norm() for mean in means])


@pytest.fixture
def classes(drawings_set):
    return (drawings_set / "classnames.txt").read_text().splitlines()


@pytest.fixture
def templates(drawings_set):
    return (drawings_set / "zeroshot_classification_templates.txt").read_text().splitlines()


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (7, 2), (256, 0)])
def test_classification_is_what_classifying_one_by_one_gives(
    batch_size, workers, model, recipe, plain, drawings_set, drawings, weights
):
    hits = {1: [], 5: []}
    for image, class_ in drawings:
        logits = plain.image(image) @ weights.T
        for k in hits:
            hits[k].append(class_ in logits.topk(k).indices.tolist())
    classes = np.array([c for _, c in drawings])
    recalls = [np.mean(np.array(hits[1])[classes == c]) for c in set(classes.tolist())]

    found = run(model, recipe, drawings_set, batch_size=batch_size, workers=workers)
    assert found.metrics["acc1"] == pytest.approx(np.mean(hits[1]))
    assert found.metrics["acc5"] == pytest.approx(np.mean(hits[5]))
    assert found.metrics["mean_per_class_recall"] == pytest.approx(np.mean(recalls))
    assert found.metrics["worst_class_recall"] == pytest.approx(min(recalls))
    assert 0 < found.metrics["acc1"] < found.metrics["acc5"] < 1
    assert found.metrics["acc1"] != found.metrics["mean_per_class_recall"]
    assert (found.set, found.task) == ("drawings", "zeroshot_classification")
    assert found.samples == 40
    assert found.unusable == {"image_unreadable": 1, "missing_cls": 1, "missing_image": 1}


def test_a_record_is_flat_and_has_the_old_keys(model, recipe, drawings_set):
    record = run(model, recipe, drawings_set).record()
    assert record["set"] == "drawings"
    assert {"acc1", "acc5", "mean_per_class_recall"} < set(record)
    assert (record["samples"], record["unusable"]) == (40, 3)
    json.dumps(record, allow_nan=False)


def test_retrieval_is_what_comparing_one_by_one_gives(
    model, recipe, plain, caption_set, drawings, captions
):
    images = torch.stack([plain.image(image) for image, _ in drawings])
    texts = [(i, plain.text(c)) for i, of_image in enumerate(captions) for c in of_image]
    similarity = torch.stack([text for _, text in texts]) @ images.T
    owner = torch.tensor([i for i, _ in texts])
    image_hits = [int(owner[t]) in row.topk(5).indices.tolist() for t, row in enumerate(similarity)]
    text_hits = [
        i in owner[column.topk(5).indices].tolist() for i, column in enumerate(similarity.T)
    ]
    for batch_size in (3, 256):
        found = run(model, recipe, caption_set, batch_size=batch_size)
        assert found.task == "zeroshot_retrieval"
        assert found.samples == 40
        metrics = found.metrics
        assert metrics["image_retrieval_recall@5"] == pytest.approx(np.mean(image_hits))
        assert metrics["text_retrieval_recall@5"] == pytest.approx(np.mean(text_hits))


def test_several_labels_an_image(
    model, recipe, plain, write_set, npy, classes, templates, weights, drawings, tmp_path
):
    labels = np.random.default_rng(1).random((40, len(classes))) < 0.3
    members = [
        {"png": image, "npy": npy(row.astype(np.int64))}
        for (image, _), row in zip(drawings, labels, strict=True)
    ]
    texts = {"classnames": classes, "zeroshot_classification_templates": templates}
    home = write_set(tmp_path / "many", members, dataset_type=["multilabel"], **texts)
    logits = torch.stack([plain.image(image) for image, _ in drawings]) @ weights.T
    precisions = []
    for column, label in zip(logits.T, labels.T, strict=True):
        ranked = label[column.argsort(descending=True).numpy()]
        precisions.append(np.mean([ranked[: place + 1].mean() for place in np.flatnonzero(ranked)]))
    found = run(model, recipe, home, batch_size=16)
    assert found.metrics == {"mean_average_precision": pytest.approx(np.mean(precisions))}


def test_groups_are_read_beside_the_class(
    model, recipe, write_classification, npy, drawings, tmp_path
):
    groups = [(i % 2, 99, i % 5) for i in range(40)]
    members = [
        {"png": image, "cls": str(c).encode(), "npy": npy(group)}
        for (image, c), group in zip(drawings, groups, strict=True)
    ]
    whole = write_classification(tmp_path / "g", members, groups=["parity", "-", "fifth"])
    found = run(model, recipe, whole).metrics
    parts = []
    for fifth in range(5):
        part = write_classification(tmp_path / f"part{fifth}", members[fifth::5])
        parts.append(run(model, recipe, part).metrics["acc1"])
    assert found["worst_fifth_acc1"] == pytest.approx(min(parts))
    assert found["worst_fifth_acc1"] < found["acc1"]
    assert "worst_parity_acc5" in found
    assert not any("worst_-" in name for name in found)
    members[7]["npy"] = b"no array"
    again = write_classification(tmp_path / "h", members, groups=["parity"])
    assert run(model, recipe, again).unusable == {"npy_unreadable": 1}


def test_association_chooses_among_the_images_of_its_cue(
    model, recipe, plain, write_set, association_sample, tmp_path
):
    cues = [(0, 5, [0, 3]), (1, 12, [1, 2, 11]), (2, 10, [5]), (3, 6, [0, 1, 2])]
    samples = [association_sample(*cue) for cue in cues]
    samples.insert(1, association_sample(4, 5, []))  # nothing was associated
    del samples[2]["7.png"]  # a candidate is missing
    home = write_set(tmp_path / "w", samples, dataset_type=["association"])
    prompts = {0: "An apple", 2: "An idea", 3: "An apple"}
    scores = {}
    for seed, candidates, associated in cues:
        if seed not in prompts:
            continue
        images = association_sample(seed, candidates, associated)
        text = plain.text(prompts[seed])
        ranked = sorted(range(candidates), key=lambda n: -plain.image(images[f"{n}.png"]) @ text)
        chosen = set(ranked[: len(associated)])
        scores[seed] = len(chosen & set(associated)) / len(chosen | set(associated))
    found = run(model, recipe, home, batch_size=2)
    assert found.samples == 3
    assert found.unusable == {"json_unreadable": 1, "missing_image": 1}
    assert found.metrics["avg_jaccard_score"] == pytest.approx(np.mean(list(scores.values())))
    assert found.metrics["jaccard_score_10-12"] == pytest.approx(scores[2])


class Constant(torch.nn.Module):
    """A model to which all pictures and all texts are the same."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def encode_image(self, image):
        return torch.ones(len(image), 4)

    def encode_text(self, text):
        return torch.ones(len(text), 4)


def test_a_model_to_which_all_is_the_same_knows_nothing(recipe, drawings_set, caption_set):
    found = run(Constant(), recipe, drawings_set).metrics
    assert found["acc1"] == found["acc5"] == found["mean_per_class_recall"] == 0
    assert set(run(Constant(), recipe, caption_set).metrics.values()) == {0.0}


def test_evaluating_draws_no_random_numbers_and_keeps_no_gradients(model, recipe, drawings_set):
    before = torch.random.get_rng_state()
    run(model, recipe, drawings_set)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_mixed_precision_is_near_and_similarities_stay_float32(model, recipe, caption_set):
    exact = run(model, recipe, caption_set).metrics["text_retrieval_recall@10"]
    mixed = run(model, recipe, caption_set, autocast=torch.bfloat16)
    assert mixed.metrics["text_retrieval_recall@10"] == pytest.approx(exact, abs=0.2)


def test_images_too_large_are_counted_as_unusable(model, recipe, drawings_set):
    says = r"drawings has no usable sample \(.*40 image_too_large"
    with pytest.raises(UserError, match=says):
        run(model, recipe, drawings_set, max_pixels=100)


def test_the_bar_moves_by_the_size_of_the_set(model, recipe, drawings_set):
    class Bar:
        done = 0
        notes = ()

        def advance(self, count, note=""):
            self.done += count
            self.notes += (note,)

    bar = Bar()
    data = EvaluationSet(str(drawings_set))
    evaluate(model, recipe, data, EvaluationSettings(batch_size=10), bar)
    assert bar.done == data.total_bytes // 1000
    assert "40 samples" in bar.notes
