"""Zero-shot classification on sets in CLIP_benchmark's webdataset layout.

A class is the mean of the unit-norm embeddings of its prompts (Radford et al., 2021), as in
CLIP_benchmark and open_clip.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import webdataset as wds
from torch import Tensor, nn
from torch.nn import functional as F

from selffilter.clip.model import ClipRecipe, Transform
from selffilter.errors import UserError
from selffilter.pool.decoding import decode_image
from selffilter.pool.failures import UnusableSample
from selffilter.pool.tar_scan import IMAGE_EXTENSIONS


class ClassificationSet:
    """A folder in CLIP_benchmark's layout.

    Attributes:
        name: The folder's name.
        classnames: One a class.
        templates: Prompts with ``{c}`` for the class name.

    Raises:
        UserError: If the folder is not such a set.
    """

    def __init__(self, folder: Path, split: str = "test") -> None:
        self.name = folder.name
        self._split = folder / split
        try:
            self.classnames = _lines(folder / "classnames.txt")
            self.templates = _lines(folder / "zeroshot_classification_templates.txt")
            shards = int((self._split / "nshards.txt").read_text())
        except (OSError, ValueError) as error:
            raise UserError(
                f"{folder} is not a classification set in CLIP_benchmark's layout: {error}"
            ) from error
        self._shards = [str(self._split / f"{i}.tar") for i in range(shards)]
        missing = [path for path in self._shards if not Path(path).exists()]
        if missing:
            raise UserError(f"{folder}: nshards.txt says {shards}, but {missing[0]} is not there.")

    def batches(
        self, transform: Transform, batch_size: int, max_pixels: int
    ) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Yield images (B, 3, H, W), classes (B,) int64, and how many samples were unusable."""
        images: list[Tensor] = []
        classes: list[int] = []
        unusable = 0
        for sample in self._samples():
            data = next((sample[e] for e in IMAGE_EXTENSIONS if e in sample), None)
            try:
                if data is None or "cls" not in sample:
                    raise ValueError("no image or no class")
                class_ = int(sample["cls"])
                images.append(transform(decode_image(data, max_pixels)))
                classes.append(class_)
            except (UnusableSample, ValueError):
                unusable += 1
            if len(images) == batch_size:
                yield torch.stack(images), torch.tensor(classes), unusable
                images, classes, unusable = [], [], 0
        if images or unusable:
            stacked = torch.stack(images) if images else torch.empty(0, 3, 1, 1)
            yield stacked, torch.tensor(classes, dtype=torch.int64), unusable

    def _samples(self) -> Iterator[dict[str, Any]]:
        # One reader sees every shard: rank 0 alone evaluates, so nothing is split by node.
        yield from wds.WebDataset(
            self._shards, shardshuffle=False, nodesplitter=lambda urls: urls, empty_check=False
        )


def evaluate_zero_shot(
    model: nn.Module,
    recipe: ClipRecipe,
    folder: Path,
    *,
    batch_size: int = 256,
    max_pixels: int = 100_000_000,
) -> dict[str, float | int | str]:
    """Classify a set without training on it.

    Args:
        model: On its device, in eval mode.
        recipe: Its transform and tokenizer.
        folder: The set; see `ClassificationSet`.
        batch_size: Images at a time.
        max_pixels: See `decode_image`.

    Returns:
        ``set``, ``acc1``, ``acc5``, ``mean_per_class_recall`` (all in [0, 1]), ``samples`` and
        ``unusable`` counts.
    """
    data = ClassificationSet(folder)
    device = next(model.parameters()).device
    class_features_CD = _class_features(model, recipe, data, device)
    ranks: list[Tensor] = []
    classes: list[Tensor] = []
    unusable = 0
    for image, class_, bad in data.batches(recipe.transform(), batch_size, max_pixels):
        unusable += bad
        if not len(image):
            continue
        with torch.no_grad():
            features_BD = F.normalize(model.encode_image(image.to(device)).float(), dim=-1)  # type: ignore[operator]
        logits_BC = features_BD @ class_features_CD.T
        own_B1 = logits_BC.gather(1, class_.to(device)[:, None])
        # Ties count against the model: a constant model must not look perfect.
        ranks.append((logits_BC >= own_B1).sum(dim=1).cpu() - 1)
        classes.append(class_)
    if not ranks:
        raise UserError(f"{folder} has no usable sample ({unusable} unusable).")
    rank_N, class_N = torch.cat(ranks), torch.cat(classes)
    hit_N = (rank_N < 1).double()
    recalls = [hit_N[class_N == c].mean() for c in class_N.unique()]
    return {
        "set": data.name,
        "acc1": float(hit_N.mean()),
        "acc5": float((rank_N < 5).double().mean()),
        "mean_per_class_recall": float(torch.stack(recalls).mean()),
        "samples": len(rank_N),
        "unusable": unusable,
    }


def _class_features(
    model: nn.Module, recipe: ClipRecipe, data: ClassificationSet, device: torch.device
) -> Tensor:
    features = []
    for name in data.classnames:
        prompts = [template.replace("{c}", name) for template in data.templates]
        with torch.no_grad():
            text_TD = model.encode_text(recipe.tokenize(prompts).to(device)).float()  # type: ignore[operator]
        features.append(F.normalize(F.normalize(text_TD, dim=-1).mean(dim=0), dim=-1))
    return torch.stack(features)


def _lines(path: Path) -> list[str]:
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line]
