"""Rows to batches: read a row's bytes at their place in the tar, decode, transform, tokenise."""

from __future__ import annotations

import os
import random
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from selffilter.pool.decoding import decode_caption, decode_image
from selffilter.pool.failures import Failure, UnusableSample
from selffilter.pool.index import Pool
from selffilter.randomness import key_from

_ATTEMPTS = 4
_OPEN_FILES = 64

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class BatchRequest:
    """Which rows to read together.

    Attributes:
        rows_B: (B,) int64. -1 is an empty slot (padding).
        step: The global step, which seeds what is random in a sample; None: nothing is random.
    """

    rows_B: NDArray[np.int64]
    step: int | None = None


class RowReader:
    """Reads the image and caption bytes of a row. One per process; keeps some tars open."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._files: OrderedDict[int, int] = OrderedDict()

    def read(self, row: int) -> tuple[bytes, bytes]:
        """Return the bytes of image and caption.

        Raises:
            UnusableSample: If the index knows no image or caption at this row.
            OSError: If the shard cannot be read, also after some patience.
        """
        image = self.member(row, "image")
        if image is None:
            raise UnusableSample(Failure.missing_image)
        caption = self.member(row, "caption")
        if caption is None:
            raise UnusableSample(Failure.missing_caption)
        return image, caption

    def member(self, row: int, what: str) -> bytes | None:
        """Return the bytes of a row's ``image``, ``caption`` or ``json``; None if it has none.

        Raises:
            OSError: If the shard cannot be read, also after some patience.
        """
        shard = int(np.searchsorted(self._pool.first_row, row, side="right")) - 1
        local = row - int(self._pool.first_row[shard])
        table = self._pool.shard_table(shard)
        offset = table[f"{what}_offset"][local].as_py()
        size = table[f"{what}_size"][local].as_py()
        if offset < 0:
            return None
        for attempt in range(_ATTEMPTS):
            try:
                return self._pread(shard, offset, size)
            except OSError as error:
                self._close(shard)
                if attempt == _ATTEMPTS - 1:
                    raise OSError(
                        f"shard {self._pool.location(shard)} cannot be read after {_ATTEMPTS} "
                        f"attempts: {error}. The state of the run is saved up to its last "
                        "checkpoint."
                    ) from error
                time.sleep(0.5 * 2**attempt)
        raise AssertionError("unreachable")

    def _pread(self, shard: int, offset: int, size: int) -> bytes:
        if shard not in self._files:
            if len(self._files) >= _OPEN_FILES:
                self._close(next(iter(self._files)))
            self._files[shard] = os.open(self._pool.location(shard), os.O_RDONLY)
        self._files.move_to_end(shard)
        parts: list[bytes] = []
        while size > 0:
            part = os.pread(self._files[shard], size, offset)
            if not part:
                raise OSError("the file has become shorter")
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return b"".join(parts)

    def _close(self, shard: int) -> None:
        if (fd := self._files.pop(shard, None)) is not None:
            os.close(fd)


class PoolDataset(Dataset[dict[str, torch.Tensor]]):
    """A map from `BatchRequest` to a batch.

    The batch is a dict: ``image`` (B, 3, H, W) float32, ``text`` (B, L) int64, ``row`` (B,) int64,
    ``valid`` (B,) bool, ``failure`` (B,) uint8 (`Failure`). A row that cannot be decoded keeps its
    slot, as zeros that are not valid.

    Args:
        pool: Where the rows are.
        transform: PIL image → (3, H, W) float32.
        tokenize: list of captions → (n, L) int64.
        max_pixels: See `decoding.decode_image`.
        seed: Seeds, with step and row, what is random in `transform`.
    """

    def __init__(
        self,
        pool: Pool,
        transform: Callable[[Any], torch.Tensor],
        tokenize: Callable[[list[str]], torch.Tensor],
        *,
        max_pixels: int,
        seed: int = 0,
    ) -> None:
        self._pool = pool
        self._transform = transform
        self._tokenize = tokenize
        self._max_pixels = max_pixels
        self._seed = seed
        self._reader = RowReader(pool)
        self._blank: torch.Tensor | None = None

    def __getitem__(self, request: BatchRequest) -> dict[str, torch.Tensor]:
        """Read, decode and stack the rows of a request."""
        images: list[torch.Tensor | None] = []
        captions: list[str] = []
        failures: list[Failure] = []
        for row in request.rows_B.tolist():
            image, caption, failure = None, "", Failure.none
            if row >= 0:
                try:
                    image, caption = self._sample(row, request.step)
                except UnusableSample as verdict:
                    failure = verdict.failure
            images.append(image)
            captions.append(caption)
            failures.append(failure)
        return {
            "image": torch.stack([self._blank_image() if i is None else i for i in images]),
            "text": self._tokenize(captions),
            "row": torch.from_numpy(request.rows_B.astype(np.int64)),
            "valid": torch.tensor([image is not None for image in images]),
            "failure": torch.tensor(failures, dtype=torch.uint8),
        }

    def _sample(self, row: int, step: int | None) -> tuple[torch.Tensor, str]:
        image_data, caption_data = self._reader.read(row)
        caption = decode_caption(caption_data, self._pool.caption_key)
        image = decode_image(image_data, self._max_pixels)
        if step is None:
            return self._transform(image), caption
        key = key_from(self._seed, "sample", step, row)
        # The CPU's generators alone: torch.manual_seed would also visit every accelerator's, which
        # takes longer than the transform (torch 2.15).
        torch_before, python_before = torch.default_generator.get_state(), random.getstate()
        try:
            torch.default_generator.manual_seed(key)
            random.seed(key)
            return self._transform(image), caption
        finally:
            torch.default_generator.set_state(torch_before)
            random.setstate(python_before)

    def _blank_image(self) -> torch.Tensor:
        if self._blank is None:
            from PIL import Image

            self._blank = torch.zeros_like(self._transform(Image.new("RGB", (8, 8))))
        return self._blank

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind when a worker process takes a copy."""
        return {**self.__dict__, "_reader": RowReader(self._pool)}


def padded_requests(rows_N: NDArray[np.int64], batch_size: int) -> list[BatchRequest]:
    """Cut rows into requests of one size, nothing random in them; the last is padded with -1."""
    padded = np.full(-(-len(rows_N) // batch_size) * batch_size, -1, dtype=np.int64)
    padded[: len(rows_N)] = rows_N
    return [BatchRequest(part) for part in padded.reshape(-1, batch_size)]


def loader_over(
    dataset: Dataset[Batch],
    requests: Any,
    workers: int,
    generator: torch.Generator | None = None,
) -> torch.utils.data.DataLoader[Batch]:
    """Return a loader that yields the batch of each request, in their order.

    Args:
        dataset: Where batches come from: a map from requests.
        requests: A sized iterable of requests.
        workers: Worker processes; 0 reads in this one.
        generator: What the workers' seeds are drawn from; None: torch's own, which moves on.
    """
    return torch.utils.data.DataLoader(
        dataset,
        sampler=requests,
        batch_size=None,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        prefetch_factor=4 if workers else None,
        persistent_workers=False,
        worker_init_fn=_settle_worker,
        generator=generator,
    )


def _settle_worker(_: int) -> None:
    # One thread: more would fight with the model for the cores.
    torch.set_num_threads(1)
    # A process group of its own: Ctrl-C and torchrun signal the whole group of a rank, and a worker
    # that dies of it takes the rank along before it has saved.
    os.setpgid(0, 0)
