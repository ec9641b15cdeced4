"""How much a model computes, counted by torch on a model without memory."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from selffilter.clip.model import ClipRecipe


def forward_flops(recipe: ClipRecipe) -> int:
    """Return the FLOPs of encoding one pair with both towers (a multiply-add counts as two)."""
    size = recipe.preprocess["size"]
    height, width = (size, size) if isinstance(size, int) else size
    length = recipe.model_config["text_cfg"].get("context_length", 77)
    with torch.device("meta"), torch.no_grad():
        model = recipe.build("meta").eval()  # batch norm does not train on a single image
        # The counter hooks whatever wants a gradient, and fails on timm's latent queries (2.15).
        model.requires_grad_(False)
        image = torch.zeros(1, 3, height, width)
        text = torch.zeros(1, length, dtype=torch.long)
        with FlopCounterMode(display=False) as counter:
            model(image, text)
    return int(counter.get_total_flops())
