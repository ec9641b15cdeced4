"""The images of evaluation sets, as `selffilter.selecting.leakage` compares the pool with them.

Two ways of comparing, and what they find:

- *By hash* of the file. Certain, and blind: a file that was encoded anew, as img2dataset does when
  it resizes, equals none.
- *By embedding*, with the round's model. Finds copies that were cropped, resized and encoded anew,
  and also what is only of a kind with an evaluation image: a model keeps apart what the captions of
  its pool keep apart, and a young one less than that. Measured with copies of 300 rows (cropped by
  up to 4 % a side, resized, brightened, as JPEG) beside 300 other images as the evaluation set, and
  a model of 7 M parameters that had seen 205 k samples (51 k) of 24,596 emoji: at a cosine of 0.95,
  99 % (100 %) of the copied rows were found, and 12 % (26 %) of the pool was flagged; at 0.99, 69 %
  (80 %) and 2.5 % (4.6 %). The copied rows are 1.2 % of the pool. On openclipart, where a thousand
  rows are rings on white, 0.95 flagged 44 % of the pool.

  So look at how many rows are flagged, and at some of them, before such a threshold is trusted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from selffilter.clip.model import ClipRecipe, encode_image
from selffilter.evaluation.evaluate import EvaluationSettings
from selffilter.evaluation.images import Images, image_batches
from selffilter.evaluation.sets import EvaluationSet
from selffilter.progress import Bar, NoBar
from selffilter.selecting.cosines import Features
from selffilter.store import write_atomically


@dataclass(frozen=True)
class Numbering:
    """Images of several sets, counted through: files in the order of the sets and their shards.

    Attributes:
        names: Of the sets.
        ends_S: (S,) int64: how many images there are up to the end of each set.
    """

    names: list[str]
    ends_S: NDArray[np.int64]

    @classmethod
    def of(cls, sets: Sequence[EvaluationSet], counts: Sequence[int]) -> Numbering:
        """Number the images of sets that have so many each."""
        return cls([data.name for data in sets], np.cumsum(counts, dtype=np.int64))

    def name(self, image: int) -> str:
        """Return what a person calls an image: its set, and its place there, from 0."""
        number = int(np.searchsorted(self.ends_S, image, side="right"))
        first = int(self.ends_S[number - 1]) if number else 0
        return f"{self.names[number]} image {image - first}"


def evaluation_hashes(
    sets: Sequence[EvaluationSet],
    folder: Path,
    settings: EvaluationSettings,
    bar: Bar | None = None,
) -> tuple[NDArray[np.uint64], Numbering]:
    """Hash the image files of some sets; each set once, its hashes are kept.

    Args:
        sets: Which.
        folder: Keeps the hashes of each set, by its fingerprint.
        settings: Batch size and workers count.
        bar: Told of the images that are done.

    Returns:
        (M,) uint64, 0 for a file too large to be read, and which image of which set each is.

    Raises:
        UserError: If a shard cannot be read.
    """
    hashes = []
    for data in sets:
        path = folder / f"{data.fingerprint}.npy"
        if not path.exists():
            parts = [np.empty(0, np.uint64)]
            for batch in _batches(data, None, settings):
                parts.append(batch.hashes_B)
                (bar or NoBar()).advance(len(batch.hashes_B))
            write_atomically(path, partial(_save, np.concatenate(parts)))
        hashes.append(np.load(path, allow_pickle=False))
    numbering = Numbering.of(sets, [len(hashes_m) for hashes_m in hashes])
    return np.concatenate([np.empty(0, np.uint64), *hashes]), numbering


def evaluation_features(
    model: nn.Module,
    recipe: ClipRecipe,
    sets: Sequence[EvaluationSet],
    settings: EvaluationSettings,
    bar: Bar | None = None,
) -> tuple[Features, Numbering]:
    """Encode the images of some sets.

    Args:
        model: On its device, in eval mode.
        recipe: Its transform.
        sets: Which.
        settings: How.
        bar: Told of the images that are done.

    Returns:
        (M, D) float32 on the CPU, unit-norm, NaN along an image that cannot be decoded; and which
        image of which set each is, numbered as by `evaluation_hashes`.

    Raises:
        UserError: If a shard cannot be read.
    """
    device = next(model.parameters()).device
    features = [np.empty((0, int(recipe.model_config["embed_dim"])), np.float32)]
    counts = []
    for data in sets:
        before = sum(len(part) for part in features)
        for batch in _batches(data, recipe, settings):
            part = np.full((len(batch.hashes_B), features[0].shape[1]), np.nan, np.float32)
            if batch.decoded_B.any():
                with torch.autocast(
                    device.type, dtype=settings.autocast, enabled=settings.autocast is not None
                ):
                    encoded = encode_image(model, batch.image.to(device))
                part[batch.decoded_B] = encoded.cpu().numpy()
            features.append(part)
            (bar or NoBar()).advance(len(part))
        counts.append(sum(len(part) for part in features) - before)
    return np.concatenate(features), Numbering.of(sets, counts)


def _batches(
    data: EvaluationSet, recipe: ClipRecipe | None, settings: EvaluationSettings
) -> Iterator[Images]:
    return image_batches(
        data,
        None if recipe is None else recipe.transform(),
        batch_size=settings.batch_size,
        workers=settings.workers,
        max_pixels=settings.max_pixels,
    )


def _save(hashes_M: NDArray[np.uint64], file: IO[bytes]) -> None:
    np.save(file, hashes_M, allow_pickle=False)
