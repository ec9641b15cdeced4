"""Where scores and embeddings come from, as plain values for the records beside them."""

from __future__ import annotations

import json
from typing import Any

from torch import nn

from selffilter.clip.model import ClipRecipe, temperature
from selffilter.scoring.pool_pass import logit_bias


def model_record(
    name: str, weights_fingerprint: str, model: nn.Module, recipe: ClipRecipe
) -> dict[str, Any]:
    """Return which model encodes: weights, temperature, and what it is fed.

    Args:
        name: What people call it.
        weights_fingerprint: See `clip.checkpoint.fingerprint`.
        model: As it scores.
        recipe: Its transform and tokenizer.

    Returns:
        As JSON gives it back.
    """
    record: dict[str, Any] = json.loads(
        json.dumps(
            {
                "name": name,
                "fingerprint": weights_fingerprint,
                "temperature": temperature(model),
                "logit_bias": logit_bias(model),
                "transform": recipe.preprocess,
                "text": recipe.model_config["text_cfg"],
            }
        )
    )
    return record
