"""Rows to batches: read the rows' bytes, decode, transform, tokenise."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from selffilter.errors import Lost, StoreGone
from selffilter.pool.captions import CaptionKey
from selffilter.pool.decoding import decode_image
from selffilter.pool.failures import Failure, UnusableSample
from selffilter.pool.in_flight import InFlight, loss_of
from selffilter.pool.index import Pool
from selffilter.pool.packs import Packs
from selffilter.pool.row_facts import facts_named, facts_of
from selffilter.pool.row_reader import (
    REQUEST_BYTES,
    RowBytes,
    RowReader,
    captions_in,
    members_read,
    size_limits,
)
from selffilter.randomness import key_from

Batch = TypeVar("Batch")

WORKER_SILENCE_S = 900.0
"""How long a batch is waited for. A server that is silent has the workers' patience, which ends
within about 5 minutes (`stores.remote`); a disk that never answers is known by this alone."""


@dataclass(frozen=True)
class BatchRequest:
    """Which rows to read together.

    Attributes:
        rows_B: (B,) int64. -1 is an empty slot (padding).
        step: The global step, which seeds what is random in a sample; None: nothing is random.
    """

    rows_B: NDArray[np.int64]
    step: int | None = None


class PoolDataset(Dataset[dict[str, torch.Tensor]]):
    """A map from `BatchRequest` to a batch.

    The batch is a dict: ``image`` (B, 3, H, W) float32, ``text`` (T, L) int64, ``caption_of`` (T,)
    int64 (place in the batch of the row that each caption belongs to), ``row`` (B,) int64,
    ``valid`` (B,) bool, ``failure`` (B,) uint8 (`Failure`), ``reads`` (4,) int64 (the fields of
    `Reads`); with every caption also ``facts`` (B, F) int64, see `facts`. A row that cannot be
    decoded keeps its slot, as zeros that are not valid.

    Args:
        pool: Where the rows are.
        transform: PIL image → (3, H, W) float32.
        tokenize: list of captions → (n, L) int64.
        max_pixels: See `decoding.decode_image`.
        at_least: Likewise.
        max_image_bytes: A larger image file is not read; None: no bound.
        seed: Seeds, with step and row, what is random in a sample: the transform, and which of its
            captions is met.
        every_caption: All captions of a row, T ≥ B, and facts; otherwise one of each, T = B and
            ``caption_of[i] == i``: drawn if the request has a step, else the first.
        hash_images: Whether the facts have the hash of the image file.
        request_bytes: See `RowReader`.
        packs: Likewise.

    Attributes:
        facts: Names of the facts that batches have of each row, some of `tables.FACTS`: all of them
            functions of the row's bytes alone.
    """

    def __init__(
        self,
        pool: Pool,
        transform: Callable[[Any], torch.Tensor],
        tokenize: Callable[[list[str]], torch.Tensor],
        *,
        max_pixels: int,
        at_least: int | None = None,
        max_image_bytes: int | None = None,
        seed: int = 0,
        every_caption: bool = False,
        hash_images: bool = False,
        request_bytes: int = REQUEST_BYTES,
        packs: Packs | None = None,
    ) -> None:
        self._transform = transform
        self._tokenize = tokenize
        self._max_pixels, self._at_least = max_pixels, at_least
        self._seed = seed
        self._every_caption = every_caption
        self.facts: tuple[str, ...] = facts_named(hash_images) if every_caption else ()
        self._reader = RowReader(pool, request_bytes, packs, size_limits(max_image_bytes))
        self._captions = CaptionKey.parse(pool.caption_key)
        self._members = members_read(self._captions)
        self._blank: torch.Tensor | None = None

    def __getitem__(self, request: BatchRequest) -> dict[str, torch.Tensor]:
        """Read, decode and stack the rows of a request."""
        before = dataclasses.replace(self._reader.reads)
        real = request.rows_B >= 0
        found = iter(self._reader.read(request.rows_B[real], self._members))
        # Filled as they are decoded: stacking them in the end would go through memory once more.
        image_BCHW = torch.empty((len(request.rows_B), *self._blank_image().shape))
        texts: list[str] = []
        caption_of: list[int] = []
        failures: list[Failure] = []
        no_facts = (0,) * len(self.facts)
        facts_of_rows: list[tuple[int, ...]] = []
        for place, row in enumerate(request.rows_B.tolist()):
            image, captions, facts, failure = None, [""], no_facts, Failure.none
            if row >= 0:
                try:
                    image, captions, facts = self._sample(row, request.step, next(found))
                except UnusableSample as verdict:
                    failure = self._reader.failure(row, verdict.failure)
            image_BCHW[place] = self._blank_image() if image is None else image
            texts += captions
            caption_of += [place] * len(captions)
            failures.append(failure)
            facts_of_rows.append(facts)
        failure_B = torch.tensor(failures, dtype=torch.uint8)
        spent = vars(self._reader.reads.since(before))
        batch = {
            "image": image_BCHW,
            "text": self._tokenize(texts),
            "caption_of": torch.tensor(caption_of),
            "row": torch.from_numpy(request.rows_B.astype(np.int64)),
            "valid": torch.from_numpy(real) & (failure_B == Failure.none),
            "failure": failure_B,
            "reads": torch.tensor(list(spent.values())),
        }
        if self.facts:
            batch["facts"] = torch.tensor(facts_of_rows, dtype=torch.int64)
        return batch

    def shards_of(self, request: BatchRequest) -> list[str]:
        """Return the names of the shards that a request reads."""
        pool = self._reader.pool
        rows_B = request.rows_B[request.rows_B >= 0]
        return [pool.shard_name(shard) for shard in np.unique(pool.shard_of(rows_B)).tolist()]

    def _sample(
        self, row: int, step: int | None, members: RowBytes
    ) -> tuple[torch.Tensor, list[str], tuple[int, ...]]:
        image_data, *texts = members
        if image_data is None:
            raise UnusableSample(Failure.missing_image)
        captions = captions_in(self._captions, texts)
        image = decode_image(image_data, self._max_pixels, at_least=self._at_least)
        facts = facts_of(self.facts, captions[0], image_data)
        if not self._every_caption:
            key = 0 if step is None else key_from(self._seed, "caption", step, row)
            captions = [captions[key % len(captions)]]
        if step is None:
            return self._transform(image), captions, facts
        with _drawing_from(key_from(self._seed, "sample", step, row)):
            return self._transform(image), captions, facts

    def _blank_image(self) -> torch.Tensor:
        if self._blank is None:
            from PIL import Image

            with _drawing_from(0):
                self._blank = torch.zeros_like(self._transform(Image.new("RGB", (8, 8))))
        return self._blank


@contextlib.contextmanager
def _drawing_from(key: int) -> Iterator[None]:
    """Seed the CPU's generators, and leave them behind as they were.

    These alone: torch.manual_seed would also visit every accelerator's, which takes longer than
    the transform (torch 2.15).
    """
    torch_before, python_before = torch.default_generator.get_state(), random.getstate()
    try:
        torch.default_generator.manual_seed(key)
        random.seed(key)
        yield
    finally:
        torch.default_generator.set_state(torch_before)
        random.setstate(python_before)


def padded_requests(rows_N: NDArray[np.int64], batch_size: int) -> list[BatchRequest]:
    """Cut rows into requests of one size, nothing random in them; the last is padded with -1."""
    padded = np.full(-(-len(rows_N) // batch_size) * batch_size, -1, dtype=np.int64)
    padded[: len(rows_N)] = rows_N
    return [BatchRequest(part) for part in padded.reshape(-1, batch_size)]


class BatchLoader(Generic[Batch]):
    """The batch of each request, in their order, made by worker processes.

    What a worker cannot read ends in the error that it had, not in its traceback.
    """

    def __init__(
        self,
        dataset: Dataset[Batch],
        requests: Any,
        workers: int,
        generator: torch.Generator | None = None,
    ) -> None:
        self._in_flight = InFlight(requests, workers, getattr(dataset, "shards_of", None))
        self._loader = torch.utils.data.DataLoader(
            _Telling(dataset, self._in_flight.at),
            sampler=self._in_flight,
            timeout=WORKER_SILENCE_S if workers else 0,
            batch_size=None,
            num_workers=workers,
            pin_memory=torch.cuda.is_available(),
            prefetch_factor=4 if workers else None,
            persistent_workers=False,
            worker_init_fn=_settle_worker,
            generator=generator,
        )

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        try:
            batches = self._in_flight.begins(self._loader)
            while (made := next(batches, None)) is not None:
                self._in_flight.came_back()
                batch, error = made
                if error:
                    raise StoreGone(error)
                yield batch
            self._in_flight.ends()
        except RuntimeError as error:
            lost = loss_of(error)
            if lost is None:
                raise
            raise Lost(lost) from error


def loader_over(
    dataset: Dataset[Batch],
    requests: Any,
    workers: int,
    generator: torch.Generator | None = None,
) -> BatchLoader[Batch]:
    """Return a loader that yields the batch of each request, in their order.

    Args:
        dataset: Where batches come from: a map from requests.
        requests: A sized iterable of requests.
        workers: Worker processes; 0 reads in this one.
        generator: What the workers' seeds are drawn from; None: torch's own, which moves on.

    Raises:
        StoreGone: While iterating, if a shard cannot be read.
        Lost: While iterating, if a worker is killed or silent for `WORKER_SILENCE_S`. (torch may
            raise it as a RuntimeError in between: see `in_flight.loss_of`.)
    """
    return BatchLoader(dataset, requests, workers, generator)


class _Telling(Dataset[tuple[Any, str]]):
    """Says what could not be read as a value: an error crosses processes as a traceback's text.

    And it notes where `InFlight` can see it which request a worker is at.
    """

    def __init__(self, dataset: Dataset[Any], at: Any) -> None:
        self._dataset, self._at = dataset, at

    def __getitem__(self, numbered: tuple[int, Any]) -> tuple[Any, str]:
        number, request = numbered
        worker = torch.utils.data.get_worker_info()
        if worker is not None:
            self._at[worker.id] = number
        try:
            return self._dataset[request], ""
        except StoreGone as error:
            return None, str(error)
        finally:
            if worker is not None:
                self._at[worker.id] = -1


def _settle_worker(_: int) -> None:
    # One thread: more would fight with the model for the cores.
    torch.set_num_threads(1)
    # A process group of its own: Ctrl-C and torchrun signal the whole group of a rank, and a worker
    # that dies of it takes the rank along before it has saved.
    os.setpgid(0, 0)
