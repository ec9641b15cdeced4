"""Looking at a pool again: are the tars those that were indexed, can every sample be decoded?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from selffilter.pool import uids
from selffilter.pool.failures import Failure
from selffilter.pool.index import Pool
from selffilter.pool.reading import BatchRequest, PoolDataset, loader_over, padded_requests
from selffilter.randomness import below_fraction

FAILED_ROWS = pa.schema(
    [
        ("row", pa.int64()),
        ("uid", uids.UID_TYPE),
        ("source", pa.string()),
        ("shard", pa.string()),
        ("key", pa.string()),
        ("reason", pa.string()),
    ]
)
"""Rows that cannot be used, and why: `shard` is the tar's path below its source."""

_BATCH = 64


@dataclass(frozen=True)
class Verdicts:
    """What was found out about rows of a shard.

    Attributes:
        shard: Its number.
        rows_n: The rows that were looked at, ascending, (n,) int64.
        failures_n: `Failure` of each, (n,) uint8.
    """

    shard: int
    rows_n: NDArray[np.int64]
    failures_n: NDArray[np.uint8]


def verify_samples(
    pool: Pool,
    *,
    max_pixels: int,
    max_bytes: int,
    fraction: float = 1.0,
    seed: int = 0,
    workers: int = 0,
    on_rows: Callable[[int], None] = lambda count: None,
) -> Iterator[Verdicts]:
    """Read and decode samples, as training and scoring do.

    Args:
        pool: The pool.
        max_pixels: Images with more are refused.
        max_bytes: Image files with more are refused.
        fraction: Share of the rows, drawn by themselves.
        seed: Of that draw.
        workers: Processes that decode; 0: this one.
        on_rows: Told how many more rows are done; may raise to stop.

    Raises:
        StoreGone: If a shard cannot be read.
    """
    dataset = PoolDataset(pool, _nothing, _no_tokens, max_pixels=max_pixels)
    ask = _Questions(pool, max_bytes, fraction, seed)
    batches = iter(loader_over(dataset, ask, workers))
    for shard in range(pool.shards):
        found, open_ = ask.shard(shard)
        on_rows(len(found.rows_n) - len(open_))
        for first in range(0, len(open_), _BATCH):
            part = open_[first : first + _BATCH]
            found.failures_n[part] = next(batches)["failure"][: len(part)].numpy()
            on_rows(len(part))
        yield found


class _Questions:
    """The requests to read, shard by shard, made as they are needed."""

    def __init__(self, pool: Pool, max_bytes: int, fraction: float, seed: int) -> None:
        self._pool, self._max_bytes = pool, max_bytes
        self._fraction, self._seed = fraction, seed

    def shard(self, shard: int) -> tuple[Verdicts, NDArray[np.int64]]:
        """Return what the index knows of a shard's drawn rows, and which places remain open."""
        pool, rows = self._pool, self._pool.shard_rows(shard)
        _, size_n = pool.places(shard)["image"]
        failures = np.where(size_n > self._max_bytes, Failure.image_too_large, 0).astype(np.uint8)
        defect_rows, defect_failures = pool.defects(shard)
        failures[defect_rows - pool.first_row[shard]] = defect_failures
        drawn = below_fraction(rows, self._fraction, self._seed, "verify")
        found = Verdicts(shard, rows[drawn], failures[drawn])
        return found, np.flatnonzero(found.failures_n == Failure.none)

    def __len__(self) -> int:
        open_ = (len(self.shard(shard)[1]) for shard in range(self._pool.shards))
        return sum(-(-count // _BATCH) for count in open_)

    def __iter__(self) -> Iterator[BatchRequest]:
        for shard in range(self._pool.shards):
            found, open_ = self.shard(shard)
            yield from padded_requests(found.rows_n[open_], _BATCH)


def failed_rows(
    pool: Pool, shard: int, rows_n: NDArray[np.int64], failures_n: NDArray[np.uint8]
) -> pa.Table:
    """List the rows of a shard that failed.

    Args:
        pool: The pool.
        shard: The shard.
        rows_n: Some of its rows, (n,) int64.
        failures_n: `Failure` of each, (n,) uint8.

    Returns:
        `FAILED_ROWS`, those with a failure.
    """
    failed = failures_n != Failure.none
    rows, reasons = rows_n[failed], failures_n[failed]
    local = pa.array(rows - pool.first_row[shard])
    table, path = pool.shard_table(shard), pool.shard_path(shard)
    return pa.Table.from_arrays(
        [
            pa.array(rows),
            table["uid"].take(local),
            pa.array([path.source] * len(rows), pa.string()),
            pa.array([path.relative] * len(rows), pa.string()),
            table["key"].take(local),
            pa.array([Failure(code).name for code in reasons.tolist()], pa.string()),
        ],
        schema=FAILED_ROWS,
    )


def _nothing(_: object) -> torch.Tensor:
    return torch.zeros(1)


def _no_tokens(captions: list[str]) -> torch.Tensor:
    return torch.zeros(len(captions), 1, dtype=torch.int64)
