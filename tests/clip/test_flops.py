import json

import pytest

from selffilter.clip.flops import forward_flops
from selffilter.clip.model import ClipRecipe, find_recipe

WIDTH, LENGTH = 32, 12
TEXT = {"context_length": LENGTH, "width": WIDTH, "heads": 2, "layers": 1}


def recipe(folder, name, vision):
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": TEXT}))
    return find_recipe(str(path))


def transformer_block(tokens):
    """Multiply-adds of a block: qkv, output, MLP (4×), and the two products of attention."""
    return tokens * WIDTH * WIDTH * (3 + 1 + 8) + 2 * tokens * tokens * WIDTH


def test_a_small_vit_costs_what_its_matrices_say(tmp_path):
    vision = {"image_size": 16, "layers": 1, "width": WIDTH, "head_width": 16, "patch_size": 8}
    image = 4 * 3 * 8 * 8 * WIDTH + transformer_block(4 + 1) + WIDTH * 16
    text = transformer_block(LENGTH) + WIDTH * 16
    counted = forward_flops(recipe(tmp_path, "flops-vit", vision))
    assert counted == pytest.approx(2 * (image + text), rel=0.02)


def test_a_model_with_batch_norm_is_counted_too(tmp_path):
    vision = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8}
    assert forward_flops(recipe(tmp_path, "flops-resnet", vision)) > 1e6


def test_timms_towers_of_siglip_are_counted():
    # Twelve blocks of width 768 over 196 patches, and over 64 tokens; what pools them comes on top.
    blocks = 12 * sum(12 * n * 768**2 + 2 * n**2 * 768 for n in (196, 64))
    found = forward_flops(ClipRecipe("ViT-B-16-SigLIP", {"size": (224, 224)}))
    assert 2 * blocks < found < 2 * 1.05 * blocks
