"""Opening trained models: what is accepted, and what is said of what is not."""

import json
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from selffilter.clip.checkpoint import fill, fingerprint, open_checkpoint, read_weights
from selffilter.clip.model import export, find_recipe
from selffilter.errors import UserError

TINY = Path(__file__).parent.parent.parent / "configs" / "models" / "tiny.json"


@pytest.fixture(scope="module")
def recipe():
    return find_recipe(str(TINY))


@pytest.fixture(scope="module")
def weights(recipe):
    torch.manual_seed(0)
    return recipe.build().state_dict()


@pytest.fixture
def folder(tmp_path, recipe, weights):
    export(tmp_path / "final", recipe, weights)
    return tmp_path / "final"


def assert_is(checkpoint, weights):
    assert not checkpoint.model.training
    assert checkpoint.fingerprint == fingerprint(weights)
    for name, value in checkpoint.model.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_an_open_clip_folder_and_a_run_with_one(folder, weights):
    for spec in (str(folder), f"local-dir:{folder}", str(folder.parent)):
        opened = open_checkpoint(spec)
        assert_is(opened, weights)
        assert (opened.name, opened.pretrained) == (f"local-dir:{folder}", "")
        assert opened.recipe.preprocess["size"] == (32, 32)
        assert opened.recipe.tokenize(["a"]).shape == (1, 24)


def test_it_is_fed_as_open_clip_feeds_it(folder, picture):
    import io

    from PIL import Image

    opened = open_checkpoint(str(folder))
    _, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    image = Image.open(io.BytesIO(picture(0, (50, 40))))
    assert torch.equal(opened.recipe.transform()(image), preprocess(image))


def test_the_preprocessing_is_the_folders(folder):
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["preprocess_cfg"]["mean"] = [0.5, 0.5, 0.5]
    path.write_text(json.dumps(config))
    assert tuple(open_checkpoint(str(folder)).recipe.preprocess["mean"]) == (0.5, 0.5, 0.5)


def test_weights_of_a_round_are_of_the_architecture_that_the_run_says(recipe, weights, tmp_path):
    run, path = (
        tmp_path / "mine",
        tmp_path / "mine" / "rounds" / "003" / "train" / "model.safetensors",
    )
    path.parent.mkdir(parents=True)
    save_file(weights, path)
    with pytest.raises(UserError, match="is no model: name"):
        open_checkpoint(str(path))
    (run / "config.yaml").write_text(f"pool:\n  shards: [/data]\nmodel:\n  name: {TINY}\n")
    opened = open_checkpoint(str(path))
    assert_is(opened, weights)
    assert (opened.name, opened.pretrained) == ("tiny", str(path))
    assert opened.recipe == recipe


@pytest.mark.parametrize("form", ["safetensors", "pt", "wrapped", "ddp"])
def test_an_architecture_with_a_file_of_weights(form, weights, tmp_path):
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pt")
    if form == "safetensors":
        save_file({k: v.contiguous() for k, v in weights.items()}, path)
    elif form == "pt":
        torch.save(weights, path)
    elif form == "wrapped":
        torch.save({"epoch": 3, "name": "x", "state_dict": weights, "optimizer": {}}, path)
    else:
        torch.save({"state_dict": {f"module.{k}": v for k, v in weights.items()}}, path)
    opened = open_checkpoint(f"{TINY}:{path}")
    assert_is(opened, weights)
    assert (opened.name, opened.pretrained) == ("tiny", str(path))


def test_weights_of_another_architecture_are_named(weights, tmp_path):
    torch.save(weights, tmp_path / "w.pt")
    with pytest.raises(UserError) as caught:
        open_checkpoint(f"ViT-B-32:{tmp_path / 'w.pt'}")
    said = str(caught.value)
    assert "not of the architecture ViT-B-32" in said
    assert "216 missing (visual.transformer.resblocks.4.ln_1.weight, " in said
    assert "positional_embedding 24×128 for 77×512" in said
    assert "unexpected" not in said


def test_what_is_missing_unexpected_or_misshapen_is_named(recipe, weights):
    model = recipe.build("meta")
    changed = dict(weights)
    changed["strange"] = changed.pop("text_projection")
    changed["visual.proj"] = torch.zeros(128, 64)
    with pytest.raises(UserError) as caught:
        fill(model, changed, "tiny")
    assert str(caught.value) == (
        "these weights are not of the architecture tiny: 1 missing (text_projection); "
        "1 unexpected (strange); 1 of another shape (visual.proj 128×64 for 128×128)."
    )


def test_a_logit_scale_may_be_a_number_or_a_vector_of_one(recipe, weights):
    model = recipe.build()
    fill(model, weights | {"logit_scale": weights["logit_scale"].reshape(1)}, "tiny")
    assert model.logit_scale.shape == ()


class Stranger:
    """Not a tensor."""


def test_objects_are_never_unpickled(weights, tmp_path):
    torch.save({"state_dict": weights, "config": Stranger()}, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"w\.pt holds more than tensors.*never unpickled"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("w.pt", b"", "cannot be read as weights"),
        ("w.pt", b"not a checkpoint", "more than tensors|cannot be read as weights"),
        ("w.safetensors", b"not safetensors", "cannot be read as weights"),
        ("w.pt", {"step": 3, "model": {}}, r"no dict of weights: it has step, model\."),
        ("w.pt", [1, 2], "holds no weights"),
        ("w.pt", {}, "holds no weights"),
    ],
)
def test_a_file_without_weights_is_refused_by_name(name, content, says, tmp_path):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match=rf"{name} .*({says})"):
        read_weights(path)


def test_a_folder_that_is_no_model_is_refused_by_what_it_is(folder, tmp_path):
    with pytest.raises(UserError, match="neither a run directory nor an open_clip folder"):
        open_checkpoint(str(tmp_path.parent))
    (folder / "open_clip_config.json").unlink()
    (tmp_path / "config.yaml").write_text("name: x\n")
    with pytest.raises(UserError, match=r"a run that is not finished: it has no final/"):
        open_checkpoint(str(tmp_path))


def test_a_folder_without_weights_or_with_a_strange_config_is_refused(folder):
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(UserError, match="has no weights"):
        open_checkpoint(str(folder))
    (folder / "open_clip_config.json").write_text('{"model_cfg": {"embed_dim": 3}}')
    with pytest.raises(UserError, match="open_clip cannot make local-dir:"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("nowhere", "'nowhere' is no model: name a run directory"),
        ("ViT-B-32:", "is no model"),
        ("ViT-B-31:openai", "architecture='ViT-B-31': open_clip knows no such model"),
        ("ViT-B-32:nonesuch", "no file nonesuch, and open_clip knows no such weights. It knows "),
        ("RN50:nowhere/w.pt", "there is no file nowhere/w.pt"),
        ("nowhere.json:w.pt", "there is no model config nowhere.json"),
        ("ViT-B-32:openai", "use ViT-B-32-quickgelu:openai"),
        ("ViT-B-32-quickgelu:laion2b_s34b_b79k", "use ViT-B-32:laion2b_s34b_b79k|no such weights"),
    ],
)
def test_a_model_that_is_not_there_is_refused_before_any_download(spec, says):
    with pytest.raises(UserError, match=says):
        open_checkpoint(spec)


def test_the_fingerprint_changes_with_any_weight_and_not_with_the_order(weights):
    before = fingerprint(weights)
    assert fingerprint(dict(reversed(weights.items()))) == before
    changed = {k: v.clone() for k, v in weights.items()}
    changed["ln_final.bias"][5] += 1e-6
    assert fingerprint(changed) != before
    assert fingerprint(weights | {"ln_final.bias": weights["ln_final.bias"].double()}) != before
