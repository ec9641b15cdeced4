"""What a model begins training with: weights, locks, dropped patches, recomputation."""

import json

import pytest
import torch
from safetensors.torch import save_file

from selffilter.clip.flops import tower_flops, training_flops
from selffilter.clip.model import find_recipe
from selffilter.clip.starting import build_to_train, pretrained_weights
from selffilter.config import ModelConfig
from selffilter.errors import UserError

VISION = {"image_size": 16, "layers": 3, "width": 32, "head_width": 16, "patch_size": 4}
TEXT = {"context_length": 12, "width": 32, "heads": 2, "layers": 3}
RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8}
CONVNEXT = "configs/models/tiny_convnext.json"


@pytest.fixture(scope="module")
def make_recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")

    def make(name="starting-vit", vision=VISION, **more):
        path = folder / f"{name}.json"
        config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": TEXT} | more
        path.write_text(json.dumps(config))
        return find_recipe(str(path))

    return make


def build(recipe, fresh=True, **fields):
    torch.manual_seed(0)
    return build_to_train(recipe, ModelConfig(recipe.name, **fields), fresh=fresh)


def other_weights(recipe):
    torch.manual_seed(1)
    return recipe.build().state_dict()


def trained(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


def step(model):
    """Draw what it drops anew, and compute a gradient."""
    torch.manual_seed(2)
    model.train()
    out = model(torch.randn(4, 3, 16, 16), torch.randint(1, 99, (4, 12)))
    (out["image_features"] @ out["text_features"].T * out["logit_scale"]).square().sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


# --- weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["safetensors", "state dict", "open_clip's checkpoint"])
def test_fresh_weights_are_those_of_a_file(form, make_recipe, tmp_path):
    recipe = make_recipe()
    weights = other_weights(recipe)
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pt")
    if form == "safetensors":
        save_file(weights, path)
    elif form == "state dict":
        torch.save(weights, path)
    else:
        prefixed = {f"module.{name}": value for name, value in weights.items()}
        torch.save({"epoch": 3, "name": "x", "state_dict": prefixed, "optimizer": {}}, path)
    got = build(recipe, pretrained=str(path)).state_dict()
    assert got.keys() == weights.keys()
    assert all(torch.equal(got[name], value) for name, value in weights.items())
    random = build(recipe).state_dict()
    assert not torch.equal(random["visual.conv1.weight"], weights["visual.conv1.weight"])


def test_a_model_that_goes_on_is_not_read_again(make_recipe, tmp_path):
    gone = str(tmp_path / "gone.pt")
    build(make_recipe(), fresh=False, pretrained=gone)
    with pytest.raises(UserError, match=r"model\.pretrained=.*gone\.pt: .* no file"):
        build(make_recipe(), pretrained=gone)


def test_weights_of_another_architecture_are_refused(make_recipe, tmp_path):
    wider = make_recipe("starting-wider", VISION | {"width": 64})
    save_file(other_weights(wider), tmp_path / "wider.safetensors")
    with pytest.raises(
        UserError, match=r"model\.pretrained=.*not of the architecture starting-vit"
    ):
        pretrained_weights(make_recipe(), str(tmp_path / "wider.safetensors"))


def test_objects_in_a_file_are_not_unpickled(make_recipe, tmp_path):
    torch.save({"state_dict": {"a": object()}}, tmp_path / "objects.pt")
    with pytest.raises(UserError, match="never unpickled"):
        pretrained_weights(make_recipe(), str(tmp_path / "objects.pt"))


def test_a_tag_that_open_clip_does_not_know_is_refused_with_those_that_it_knows():
    with pytest.raises(UserError, match=r"model\.pretrained=laion3b: .*laion2b_s34b_b79k"):
        pretrained_weights(find_recipe("ViT-B-32"), "laion3b")


def test_the_weights_of_a_tag_are_fed_what_they_were_trained_on():
    plain, tagged = find_recipe("ViT-B-32"), find_recipe("ViT-B-32", "laion2b_s34b_b79k")
    assert plain.preprocess == tagged.preprocess
    inception = find_recipe("ViT-L-14", "laion2b_s32b_b82k").preprocess
    assert inception["mean"] == inception["std"] == (0.5, 0.5, 0.5)
    assert inception["size"] == find_recipe("ViT-L-14").preprocess["size"]


# --- locks ----------------------------------------------------------------------------------------


def test_a_locked_tower_is_locked_but_for_its_last_groups(make_recipe):
    recipe = make_recipe()
    everything = trained(build(recipe))
    image = {name for name in everything if name.startswith("visual.")}
    assert trained(build(recipe, unlocked_image_groups=0)) == everything - image
    last = {"visual.proj"}
    assert trained(build(recipe, unlocked_image_groups=1)) & image == last
    last |= {
        n for n in image if n.startswith(("visual.transformer.resblocks.2.", "visual.ln_post"))
    }
    assert trained(build(recipe, unlocked_image_groups=2)) & image == last

    text = everything - image - {"logit_scale"}
    assert trained(build(recipe, unlocked_text_groups=0)) == everything - text
    last = {"text_projection"}
    assert trained(build(recipe, unlocked_text_groups=1)) & text == last
    last |= {n for n in text if n.startswith(("transformer.resblocks.2.", "ln_final"))}
    assert trained(build(recipe, unlocked_text_groups=2)) & text == last
    both = build(recipe, unlocked_image_groups=0, unlocked_text_groups=0)
    assert trained(both) == {"logit_scale"}


def test_an_image_tower_with_batch_norm_cannot_be_locked(make_recipe):
    resnet = make_recipe("starting-resnet", RESNET)
    with pytest.raises(UserError, match=r"unlocked_image_groups=0: .*batch norm \(bn1\)"):
        build(resnet, unlocked_image_groups=0)
    assert trained(build(resnet, unlocked_text_groups=0)) >= {"visual.conv1.weight"}


def test_towers_of_timms_are_locked_too():
    recipe = find_recipe(CONVNEXT)
    assert not any(
        n.startswith("visual.trunk") for n in trained(build(recipe, unlocked_image_groups=0))
    )
    some = {n for n in trained(build(recipe, unlocked_image_groups=1)) if "trunk" in n}
    assert 0 < len(some) < len(dict(build(recipe).visual.trunk.named_parameters()))


# --- patches, recomputation, compute --------------------------------------------------------------


def test_patch_dropout_drops_that_share_in_training_alone(make_recipe):
    model, seen = build(make_recipe(), patch_dropout=0.5), []
    model.visual.transformer.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    step(model)
    model.eval()(torch.zeros(4, 3, 16, 16), torch.zeros(4, 12, dtype=torch.long))
    assert [shape[1] for shape in seen] == [1 + 8, 1 + 16]
    assert model.state_dict().keys() == build(make_recipe()).state_dict().keys()


def test_patch_dropout_of_the_models_config_stands_unless_it_is_set(make_recipe):
    recipe = make_recipe("starting-drops", VISION | {"patch_dropout": 0.25})
    assert build(recipe).visual.patch_dropout.prob == 0.25
    assert build(recipe, patch_dropout=0.5).visual.patch_dropout.prob == 0.5
    assert isinstance(build(recipe, patch_dropout=0.0).visual.patch_dropout, torch.nn.Identity)


@pytest.mark.parametrize("which", ["resnet", "convnext"])
def test_a_model_without_patches_cannot_drop_any(which, make_recipe):
    resnet = which == "resnet"
    recipe = make_recipe("starting-resnet", RESNET) if resnet else find_recipe(CONVNEXT)
    with pytest.raises(UserError, match=r"model\.patch_dropout=0\.5: the model .* cannot"):
        build(recipe, patch_dropout=0.5)


def test_gradient_checkpointing_computes_the_same_with_more_forwards(make_recipe):
    found = []
    for checkpointing in (False, True):
        model = build(
            make_recipe(), patch_dropout=0.5, gradient_checkpointing=checkpointing
        )  # the same patches are dropped again
        calls = []
        for tower in (model.visual.transformer, model.transformer):
            tower.resblocks[0].attn.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        found.append((step(model), len(calls)))
    (plain, once), (again, twice) = found
    assert (once, twice) == (2, 4)
    assert plain.keys() == again.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient)


def test_training_costs_what_is_trained_and_not_dropped(make_recipe):
    recipe = make_recipe()
    image, text = tower_flops(recipe)
    assert training_flops(recipe, build(recipe)) == 3 * (image + text)
    assert training_flops(recipe, build(recipe, unlocked_image_groups=0)) == image + 3 * text
    assert training_flops(recipe, build(recipe, unlocked_text_groups=0)) == 3 * image + text
    half, _ = tower_flops(recipe, 0.5)
    assert image / 2 * 0.9 < half < image * 0.7
    assert training_flops(recipe, build(recipe, patch_dropout=0.5)) == 3 * (half + text)
    drops = make_recipe("starting-drops-half", VISION | {"patch_dropout": 0.5})
    assert training_flops(drops, build(drops)) == 3 * (half + text)
    assert tower_flops(drops) == (image, text)
