"""A model on a set: zero-shot classification, retrieval, several labels an image, association."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from selffilter.clip.model import ClipRecipe, encode_image, encode_text
from selffilter.errors import UserError
from selffilter.evaluation.association import (
    association_metrics,
    association_prompt,
    jaccard_index,
)
from selffilter.evaluation.classification import (
    Metrics,
    classification_metrics,
    place_of_own_class,
)
from selffilter.evaluation.multilabel import average_precision
from selffilter.evaluation.retrieval import retrieval_metrics
from selffilter.evaluation.samples import Labels
from selffilter.evaluation.sets import EvaluationSet
from selffilter.evaluation.similarity import similarities
from selffilter.progress import Bar, NoBar

TASKS = {
    "classification": "zeroshot_classification",
    "multilabel": "zeroshot_classification",
    "retrieval": "zeroshot_retrieval",
    "association": "zeroshot_association",
}
"""Kind of set → name of the task; the first two names are CLIP_benchmark's."""


@dataclass(frozen=True)
class EvaluationSettings:
    """How to evaluate.

    Attributes:
        batch_size: Samples, or texts, encoded together; changes nothing beyond rounding.
        workers: Processes that decode; 0 decodes in this one.
        autocast: The dtype of mixed precision, or None. Similarities are float32 in any case.
        max_pixels: See `decode_image`.
    """

    batch_size: int = 256
    workers: int = 0
    autocast: torch.dtype | None = None
    max_pixels: int = 100_000_000


@dataclass(frozen=True)
class Evaluation:
    """What a model did on a set.

    Attributes:
        set: The set's name.
        task: See `TASKS`.
        metrics: Of the task; see `classification_metrics`, `retrieval_metrics`,
            `average_precision`, `association_metrics`.
        samples: How many were used.
        unusable: Reason → how many were not.
    """

    set: str
    task: str
    metrics: Metrics
    samples: int
    unusable: dict[str, int]

    def record(self) -> dict[str, Any]:
        """Return everything as one flat record, reasons apart."""
        return {
            "set": self.set,
            "task": self.task,
            **self.metrics,
            "samples": self.samples,
            "unusable": sum(self.unusable.values()),
            "unusable_by_reason": self.unusable,
        }


def evaluate(
    model: nn.Module,
    recipe: ClipRecipe,
    data: EvaluationSet,
    settings: EvaluationSettings,
    bar: Bar | None = None,
) -> Evaluation:
    """Evaluate a model on a set without training on it.

    Args:
        model: On its device, in eval mode.
        recipe: Its transform and tokenizer.
        data: The set.
        settings: How.
        bar: Told of the kilobytes that are done.

    Raises:
        UserError: If no sample is usable, or a shard cannot be read.
    """
    bar = bar or NoBar()
    encoder = _Encoder(model, recipe, settings)
    task: _Task = _TASKS[data.kind](encoder, data)
    unusable: Counter[str] = Counter()
    samples = read = told = 0
    for batch in data.batches(
        recipe.transform(),
        batch_size=settings.batch_size,
        workers=settings.workers,
        max_pixels=settings.max_pixels,
    ):
        if batch.labels:
            task.take(encoder.images(batch.image), batch.labels)
        samples += len(batch.labels)
        unusable.update(batch.unusable)
        read += batch.size
        bar.advance(read // 1000 - told, f"{samples:,} samples")
        told = read // 1000
    bar.advance((data.total_bytes or read) // 1000 - told)  # what lies between the members
    if not samples:
        reasons = ", ".join(f"{count} {reason}" for reason, count in unusable.items())
        raise UserError(f"{data.location} has no usable sample ({reasons or 'it is empty'}).")
    return Evaluation(data.name, TASKS[data.kind], task.metrics(), samples, dict(unusable))


class _Encoder:
    """Pictures and texts to unit-norm float32 features on the model's device."""

    def __init__(self, model: nn.Module, recipe: ClipRecipe, settings: EvaluationSettings) -> None:
        self._model, self._tokenize, self._settings = model, recipe.tokenize, settings
        self._device = next(model.parameters()).device

    def images(self, image_B3HW: Tensor) -> Tensor:
        """Return (B, D)."""
        parts = image_B3HW.split(self._settings.batch_size)
        return torch.cat([self._encode(encode_image, part) for part in parts])

    def texts(self, texts: list[str]) -> Tensor:
        """Return (T, D)."""
        size = self._settings.batch_size
        parts = (texts[first : first + size] for first in range(0, len(texts), size))
        return torch.cat([self._encode(encode_text, self._tokenize(part)) for part in parts])

    def _encode(self, tower: Any, batch: Tensor) -> Tensor:
        dtype = self._settings.autocast
        with torch.autocast(self._device.type, dtype=dtype, enabled=dtype is not None):
            features: Tensor = tower(self._model, batch.to(self._device))
        return features


class _Task(Protocol):
    def take(self, image_features_BD: Tensor, labels: list[Labels]) -> None: ...

    def metrics(self) -> Metrics: ...


class _Classification:
    def __init__(self, encoder: _Encoder, data: EvaluationSet) -> None:
        self._class_features_CD = _class_features(encoder, data)
        self._group_names = list(data.groups)
        self._parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def take(self, image_features_BD: Tensor, labels: list[Labels]) -> None:
        class_B = torch.tensor([known.class_ for known in labels])
        group_BG = torch.tensor([known.groups for known in labels], dtype=torch.int64)
        logits_BC = similarities(image_features_BD, self._class_features_CD)
        rank_B, predicted_B = place_of_own_class(logits_BC, class_B.to(logits_BC.device))
        self._parts.append((rank_B.cpu(), predicted_B.cpu(), class_B, group_BG))

    def metrics(self) -> Metrics:
        rank_N, predicted_N, class_N, group_NG = map(torch.cat, zip(*self._parts, strict=True))
        groups = {name: group_NG[:, column] for column, name in enumerate(self._group_names)}
        classes = len(self._class_features_CD)
        return classification_metrics(rank_N, predicted_N, class_N, classes, groups)


class _Multilabel:
    def __init__(self, encoder: _Encoder, data: EvaluationSet) -> None:
        self._class_features_CD = _class_features(encoder, data)
        self._scores: list[Tensor] = []
        self._labels: list[Tensor] = []

    def take(self, image_features_BD: Tensor, labels: list[Labels]) -> None:
        self._scores.append(similarities(image_features_BD, self._class_features_CD).cpu())
        self._labels.append(torch.tensor([known.classes for known in labels]))

    def metrics(self) -> Metrics:
        precision_C = average_precision(torch.cat(self._scores), torch.cat(self._labels))
        return {"mean_average_precision": float(precision_C.mean())}


class _Retrieval:
    def __init__(self, encoder: _Encoder, data: EvaluationSet) -> None:
        self._encoder = encoder
        self._image_features: list[Tensor] = []
        self._text_features: list[Tensor] = []
        self._captions: list[int] = []

    def take(self, image_features_BD: Tensor, labels: list[Labels]) -> None:
        captions = [caption for known in labels for caption in known.captions]
        self._image_features.append(image_features_BD)
        self._text_features.append(self._encoder.texts(captions))
        self._captions += [len(known.captions) for known in labels]

    def metrics(self) -> Metrics:
        image_features_ID = torch.cat(self._image_features)
        captions_I = torch.tensor(self._captions, device=image_features_ID.device)
        image_of_text_T = torch.arange(len(captions_I), device=captions_I.device)
        image_of_text_T = image_of_text_T.repeat_interleave(captions_I)
        return retrieval_metrics(image_features_ID, torch.cat(self._text_features), image_of_text_T)


class _Association:
    def __init__(self, encoder: _Encoder, data: EvaluationSet) -> None:
        self._encoder = encoder
        self._jaccard: list[float] = []
        self._candidates: list[int] = []

    def take(self, image_features_BD: Tensor, labels: list[Labels]) -> None:
        cues = self._encoder.texts([association_prompt(known.cue) for known in labels])
        sizes = [len(known.associated) for known in labels]
        for known, cue_D, images_KD in zip(
            labels, cues, image_features_BD.split(sizes), strict=True
        ):
            similarity_K = similarities(cue_D[None], images_KD)[0].cpu()
            self._jaccard.append(jaccard_index(similarity_K, torch.tensor(known.associated)))
        self._candidates += sizes

    def metrics(self) -> Metrics:
        return association_metrics(self._jaccard, self._candidates)


_TASKS: dict[str, Any] = {
    "classification": _Classification,
    "multilabel": _Multilabel,
    "retrieval": _Retrieval,
    "association": _Association,
}


def _class_features(encoder: _Encoder, data: EvaluationSet) -> Tensor:
    """Return (C, D): a class is the mean of its prompts' features (Radford et al., 2021).

    The mean is of unit-norm features and is made unit-norm again, as in CLIP_benchmark.
    """
    templates = len(data.templates)
    prompts = [t.replace("{c}", name) for name in data.classnames for t in data.templates]
    features_CTD = encoder.texts(prompts).unflatten(0, (len(data.classnames), templates))
    return F.normalize(features_CTD.mean(dim=1), dim=-1)
