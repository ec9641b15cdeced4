"""How much a model computes, counted by torch on a model without memory."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from selffilter.clip.model import ClipRecipe
from selffilter.planning import TRAINING_TO_FORWARD


def forward_flops(recipe: ClipRecipe) -> int:
    """Return the FLOPs of encoding one pair with both towers (a multiply-add counts as two)."""
    return sum(tower_flops(recipe))


def tower_flops(recipe: ClipRecipe, patch_dropout: float = 0.0) -> tuple[int, int]:
    """Return the FLOPs of encoding one image, and of one caption.

    Args:
        recipe: The model.
        patch_dropout: Share of the patches that are dropped.
    """
    size = recipe.preprocess["size"]
    height, width = (size, size) if isinstance(size, int) else size
    length = recipe.model_config["text_cfg"].get("context_length", 77)
    with torch.device("meta"), torch.no_grad():
        model = recipe.build("meta", patch_dropout=patch_dropout)
        model.eval()  # batch norm does not train on a single image
        for dropout in patch_dropouts(model):
            dropout.train()
        # The counter hooks whatever wants a gradient, and fails on timm's latent queries (2.15).
        model.requires_grad_(False)
        image = torch.zeros(1, 3, height, width)
        text = torch.zeros(1, length, dtype=torch.long)
        with FlopCounterMode(display=False) as of_image:
            model.encode_image(image)  # type: ignore[operator]
        with FlopCounterMode(display=False) as of_text:
            model.encode_text(text)  # type: ignore[operator]
    return int(of_image.get_total_flops()), int(of_text.get_total_flops())


def training_flops(recipe: ClipRecipe, model: nn.Module) -> int:
    """Return the FLOPs that one pair costs in training, forward and backward of both towers.

    Recomputation (micro-batches, gradient checkpointing) does not count, dropped patches do not
    either. A tower of which nothing is trained costs its forward; one that is trained in part
    counts as trained.

    Args:
        recipe: How the model was built.
        model: As it trains: what is locked, which share of the patches it drops.
    """
    dropped = max((float(dropout.prob) for dropout in patch_dropouts(model)), default=0.0)  # type: ignore[arg-type]
    image, text = tower_flops(recipe, dropped)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    logit = ("logit_scale", "logit_bias")
    trains_image = any(name.startswith("visual.") for name in trained)
    trains_text = any(not name.startswith(("visual.", *logit)) for name in trained)
    return image * (TRAINING_TO_FORWARD if trains_image else 1) + text * (
        TRAINING_TO_FORWARD if trains_text else 1
    )


def patch_dropouts(model: nn.Module) -> list[nn.Module]:
    """Return open_clip's and timm's modules of that name."""
    return [module for module in model.modules() if type(module).__name__ == "PatchDropout"]
