"""Target sets: pictures of what a model is wanted for, encoded by the model that scores.

A target set is an evaluation set in CLIP_benchmark's layout, of which only images are read; of a
retrieval set the first caption of each too. Its ``train`` split counts, so that a model that is
tested on the set has not been told which pictures it will be asked.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import nn

from selffilter.clip.model import ClipRecipe, encode_image, encode_text
from selffilter.errors import UserError
from selffilter.evaluation.evaluate import EvaluationSettings
from selffilter.evaluation.sets import EvaluationSet
from selffilter.progress import Bar, NoBar
from selffilter.scoring.moments import SecondMoments
from selffilter.scoring.signals.facts import Target

SPLIT = "train"


def open_target(spec: str) -> EvaluationSet:
    """Open a target set.

    Raises:
        UserError: If it is none, or has no split for training.
    """
    return EvaluationSet(spec, SPLIT)


def encode_target(
    model: nn.Module,
    recipe: ClipRecipe,
    data: EvaluationSet,
    settings: EvaluationSettings,
    bar: Bar | None = None,
) -> Target:
    """Encode a target set; what is not usable is left out.

    Args:
        model: On its device, in eval mode.
        recipe: Its transform and tokenizer.
        data: The set.
        settings: How.
        bar: Told of the images that are done.

    Returns:
        Features and second moments on the model's device; of captions for a retrieval set alone.

    Raises:
        UserError: If no sample is usable, or a shard cannot be read.
    """
    bar = bar or NoBar()
    device = next(model.parameters()).device
    images, texts = [], []
    unusable: Counter[str] = Counter()
    for batch in data.batches(
        recipe.transform(),
        batch_size=settings.batch_size,
        workers=settings.workers,
        max_pixels=settings.max_pixels,
    ):
        unusable.update(batch.unusable)
        if not batch.labels:
            continue
        with torch.autocast(
            device.type, dtype=settings.autocast, enabled=settings.autocast is not None
        ):
            images.append(encode_image(model, batch.image.to(device)))
            if data.kind == "retrieval":
                captions = recipe.tokenize([labels.captions[0] for labels in batch.labels])
                texts.append(encode_text(model, captions.to(device)))
        bar.advance(len(batch.image))
    if not images:
        reasons = ", ".join(f"{count} {reason}" for reason, count in unusable.items())
        raise UserError(f"{data.location} has no usable sample ({reasons or 'it is empty'}).")
    image_MD = torch.cat(images)
    return Target(SecondMoments.of(image_MD, torch.cat(texts) if texts else None), image_MD)
