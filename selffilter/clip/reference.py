"""A model beside the one that scores, which is fed the same pixels and tokens."""

from __future__ import annotations

from typing import Any

import torch

from selffilter.clip.checkpoint import Checkpoint, open_checkpoint
from selffilter.clip.model import ClipRecipe
from selffilter.errors import UserError

_TOKENS = ("context_length", "vocab_size", "hf_tokenizer_name", "tokenizer_kwargs")


def open_reference(
    spec: str, recipe: ClipRecipe, device: torch.device | str = "cpu", asked_as: str = ""
) -> Checkpoint:
    """Open a reference model.

    Args:
        spec: As for `open_checkpoint`.
        recipe: Of the model that scores.
        device: Where it goes.
        asked_as: What the user calls it, for errors.

    Raises:
        UserError: If there is no such model, or it wants other pixels or tokens.
    """
    reference = open_checkpoint(spec, device)
    ours, theirs = _fed(recipe), _fed(reference.recipe)
    for what, value in ours.items():
        if theirs[what] != value:
            raise UserError(
                f"{asked_as or 'the reference'}={spec} wants {what} {theirs[what]!r}, the model "
                f"that scores {value!r}: both must be fed the same pixels and tokens."
            )
    return reference


def _fed(recipe: ClipRecipe) -> dict[str, Any]:
    text = recipe.model_config.get("text_cfg", {})
    pixels = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in recipe.preprocess.items()
    }
    return pixels | {name: text.get(name) for name in _TOKENS}
