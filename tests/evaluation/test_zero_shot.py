import io
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from selffilter.clip.model import find_recipe
from selffilter.errors import UserError
from selffilter.evaluation.zero_shot import ClassificationSet, evaluate_zero_shot

TINY = Path(__file__).parent.parent.parent / "configs" / "models" / "tiny.json"
CLASSES = ["red fox", "barn", "sea", "oak tree", "mug", "old car", "moon"]
TEMPLATES = ["a photo of a {c}.", "{c}", "the {c} and the other {c}"]


@pytest.fixture
def samples(picture):
    """Forty pictures, their classes unevenly many."""
    classes = np.random.default_rng(0).choice(6, 40, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.1])
    return [(picture(i, (40, 30)), int(class_)) for i, class_ in enumerate(classes)]


@pytest.fixture
def folder(make_tar, samples, tmp_path):
    """The set in two tars, with three samples among them that cannot be used."""
    members = [{"png": image, "cls": str(c).encode()} for image, c in samples]
    members[3:3] = [{"png": b"broken", "cls": b"1"}, {"png": samples[0][0]}, {"cls": b"1"}]
    named = [(f"s{i:07d}", m) for i, m in enumerate(members)]
    home = tmp_path / "drawings"
    make_tar(home / "test" / "0.tar", named[:20])
    make_tar(home / "test" / "1.tar", named[20:])
    (home / "test" / "nshards.txt").write_text("2\n")
    (home / "classnames.txt").write_text("\n".join(CLASSES) + "\n")
    (home / "zeroshot_classification_templates.txt").write_text("\n".join(TEMPLATES))
    return home


@pytest.fixture(scope="module")
def recipe():
    return find_recipe(str(TINY))


@pytest.fixture(scope="module")
def model(recipe):
    torch.manual_seed(0)
    model = recipe.build().eval()
    with torch.no_grad():  # so that pictures of noise are told apart
        model.visual.conv1.weight.mul_(20)
        model.text_projection[:, 0] *= 30  # and that some prompts are longer than others
    return model


def plainly(model, samples):
    """Classify one picture after another, as open_clip's own documentation does it."""
    _, _, transform = open_clip.create_model_and_transforms("tiny")
    tokenizer = open_clip.get_tokenizer("tiny")
    with torch.no_grad():
        weights = []
        for name in CLASSES:
            prompts = tokenizer([template.replace("{c}", name) for template in TEMPLATES])
            mean = model.encode_text(prompts, normalize=True).mean(0)
            weights.append(mean / mean.norm())
        weights = torch.stack(weights)
        hits = {1: [], 5: []}
        for image, class_ in samples:
            pixels = transform(Image.open(io.BytesIO(image)).convert("RGB"))
            logits = (model.encode_image(pixels[None], normalize=True) @ weights.T)[0]
            for k in hits:
                hits[k].append(class_ in logits.topk(k).indices.tolist())
    classes = np.array([c for _, c in samples])
    recalls = [np.mean(np.array(hits[1])[classes == c]) for c in set(classes.tolist())]
    return np.mean(hits[1]), np.mean(hits[5]), np.mean(recalls)


@pytest.mark.parametrize("batch_size", [1, 7, 256])
def test_it_is_what_classifying_one_by_one_gives(model, recipe, folder, samples, batch_size):
    found = evaluate_zero_shot(model, recipe, folder, batch_size=batch_size)
    acc1, acc5, recall = plainly(model, samples)
    assert found["acc1"] == pytest.approx(acc1)
    assert found["acc5"] == pytest.approx(acc5)
    assert found["mean_per_class_recall"] == pytest.approx(recall)
    assert (found["set"], found["samples"], found["unusable"]) == ("drawings", 40, 3)
    assert 0 < acc1 < acc5 < 1
    assert acc1 != recall


class Constant(torch.nn.Module):
    """A model to which all pictures and all texts are the same."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def encode_image(self, image):
        return torch.ones(len(image), 4)

    def encode_text(self, text):
        return torch.ones(len(text), 4)


def test_a_model_to_which_all_is_the_same_knows_nothing(recipe, folder):
    found = evaluate_zero_shot(Constant(), recipe, folder)
    assert found["acc1"] == found["acc5"] == found["mean_per_class_recall"] == 0


def test_evaluating_draws_no_random_numbers_and_keeps_no_gradients(model, recipe, folder):
    before = torch.random.get_rng_state()
    evaluate_zero_shot(model, recipe, folder)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_images_too_large_are_counted_as_unusable(model, recipe, folder):
    with pytest.raises(UserError, match=r"drawings has no usable sample \(43 unusable\)"):
        evaluate_zero_shot(model, recipe, folder, max_pixels=100)


def test_a_folder_that_is_no_set_is_refused_by_name(folder, tmp_path):
    with pytest.raises(UserError, match="nowhere is not a classification set"):
        ClassificationSet(tmp_path / "nowhere")
    (folder / "test" / "nshards.txt").write_text("3")
    with pytest.raises(UserError, match=r"nshards\.txt says 3, but .*2\.tar is not there"):
        ClassificationSet(folder)
    (folder / "test" / "nshards.txt").write_text("many")
    with pytest.raises(UserError, match="is not a classification set"):
        ClassificationSet(folder)
