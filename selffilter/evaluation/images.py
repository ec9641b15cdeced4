"""The images of an evaluation set, whatever is said of them: what a pool had better not show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from selffilter.clip.model import Transform
from selffilter.evaluation.samples import MAX_IMAGE_BYTES
from selffilter.evaluation.sets import EvaluationSet
from selffilter.pool.decoding import IMAGE_EXTENSIONS, decode_image
from selffilter.pool.failures import UnusableSample
from selffilter.pool.reading import loader_over
from selffilter.pool.row_facts import image_hash


@dataclass(frozen=True)
class Images:
    """Some images of a set, in the order of its shards.

    Attributes:
        hashes_B: `image_hash` of each file, uint64; 0 for one too large to be read.
        decoded_B: Which of them could be decoded, bool; none without a transform.
        image: Those, (n, 3, H, W) float32.
    """

    hashes_B: NDArray[np.uint64]
    decoded_B: NDArray[np.bool_]
    image: Tensor


def image_batches(
    data: EvaluationSet,
    transform: Transform | None,
    *,
    batch_size: int,
    workers: int,
    max_pixels: int,
) -> Iterator[Images]:
    """Read every image file of a set: of a sample's several images, each.

    Args:
        data: The set.
        transform: PIL image → (3, H, W) float32; None: files are hashed, and none is decoded.
        batch_size: Files at a time.
        workers: Processes that read; 0 reads in this one.
        max_pixels: See `decode_image`.

    Raises:
        UserError: If a shard is broken, or cannot be fetched, also after some patience.
    """
    for path, samples in data.shards():
        files = [
            place
            for members in samples
            for extension, place in members.items()
            if extension.rpartition(".")[2] in IMAGE_EXTENSIONS
        ]
        requests = [
            range(first, min(first + batch_size, len(files)))
            for first in range(0, len(files), batch_size)
        ]
        reader = _ImageFiles(path, files, transform, max_pixels)
        # A generator of its own: looking at sets must not change what is random in training.
        yield from loader_over(reader, requests, min(workers, len(requests)), torch.Generator())


class _ImageFiles(Dataset[Images]):
    def __init__(
        self,
        path: Path,
        files: list[tuple[int, int]],
        transform: Transform | None,
        max_pixels: int,
    ) -> None:
        self._path, self._files = path, files
        self._transform, self._max_pixels = transform, max_pixels

    def __getitem__(self, places: range) -> Images:
        hashes, images = [], []
        decoded_B = np.zeros(len(places), bool)
        with self._path.open("rb") as file:
            for number, place in enumerate(places):
                offset, size = self._files[place]
                if size > MAX_IMAGE_BYTES:
                    hashes.append(0)
                    continue
                file.seek(offset)
                data = file.read(size)
                hashes.append(image_hash(data))
                if (image := self._decoded(data)) is not None:
                    images.append(image)
                    decoded_B[number] = True
        hashes_B = np.array(hashes, np.int64).view(np.uint64)
        return Images(
            hashes_B, decoded_B, torch.stack(images) if images else torch.empty(0, 3, 1, 1)
        )

    def _decoded(self, data: bytes) -> Tensor | None:
        if self._transform is None:
            return None
        try:
            return self._transform(decode_image(data, self._max_pixels))
        except UnusableSample:
            return None
