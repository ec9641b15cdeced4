"""What is in a pool, as its index tells: counted by source, without reading a tar."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selffilter.pool.decoding import IMAGE_EXTENSIONS
from selffilter.pool.failures import count_by_reason
from selffilter.pool.index import Pool
from selffilter.pool.index_files import extensions_of

PERCENTILES = (5, 25, 50, 75, 95)
_BINS_AN_OCTAVE = 64


class Sizes:
    """Sizes in bytes, counted in bins about 1 % wide, so that any number of them takes 32 kB."""

    def __init__(self) -> None:
        self.count = self.total = self.largest = 0
        self._bins: NDArray[np.int64] = np.zeros(64 * _BINS_AN_OCTAVE, np.int64)

    def add(self, sizes_n: NDArray[np.int64]) -> None:
        """Count some sizes."""
        if len(sizes_n):
            self.count += len(sizes_n)
            self.total += int(sizes_n.sum())
            self.largest = max(self.largest, int(sizes_n.max()))
            bins = (np.log2(np.maximum(sizes_n, 1)) * _BINS_AN_OCTAVE).astype(np.int64)
            self._bins += np.bincount(bins, minlength=len(self._bins))

    def merge(self, other: Sizes) -> None:
        """Count what another one has counted."""
        self.count += other.count
        self.total += other.total
        self.largest = max(self.largest, other.largest)
        self._bins += other._bins

    def record(self) -> dict[str, int | float | None]:
        """Return count, total, mean, largest and percentiles, in bytes; exact to about 1 %."""
        rank = np.ceil(np.array(PERCENTILES) / 100 * max(1, self.count))
        bins = np.searchsorted(np.cumsum(self._bins), rank)
        found = np.minimum(2 ** ((bins + 0.5) / _BINS_AN_OCTAVE), self.largest).round()
        return {
            "count": self.count,
            "total": self.total,
            "mean": self.total / self.count if self.count else None,
            **{
                f"p{p}": int(size) if self.count else None
                for p, size in zip(PERCENTILES, found, strict=True)
            },
            "largest": self.largest,
        }


@dataclass
class Contents:
    """What is in a source, or in all of them.

    Attributes:
        shards: Tars.
        samples: Rows.
        bytes: Of the tars.
        images: Sizes of the image members.
        captions: Sizes of the members that captions stand in.
        extensions: How many samples have a member of each extension.
        unusable: How many rows the index knows to be unusable, by reason.
        broken: A sentence for each tar whose scan ended early.
    """

    shards: int = 0
    samples: int = 0
    bytes: int = 0
    images: Sizes = field(default_factory=Sizes)
    captions: Sizes = field(default_factory=Sizes)
    extensions: Counter[str] = field(default_factory=Counter)
    unusable: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    @property
    def kinds(self) -> dict[str, int]:
        """How many samples have an image of each kind."""
        return {kind: self.extensions[kind] for kind in IMAGE_EXTENSIONS if self.extensions[kind]}

    def merge(self, other: Contents) -> None:
        """Add what is in another one."""
        self.shards += other.shards
        self.samples += other.samples
        self.bytes += other.bytes
        self.images.merge(other.images)
        self.captions.merge(other.captions)
        self.extensions += other.extensions
        self.unusable += other.unusable
        self.broken += other.broken

    def record(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "shards": self.shards,
            "samples": self.samples,
            "bytes": self.bytes,
            "images": self.images.record(),
            "captions": self.captions.record(),
            "image_kinds": self.kinds,
            "extensions": dict(self.extensions.most_common()),
            "unusable": dict(self.unusable),
            "broken": self.broken,
        }


def contents_of(pool: Pool, on_each: Callable[[], None] = lambda: None) -> list[Contents]:
    """Look into a pool's index.

    Args:
        pool: The pool.
        on_each: Called after each shard.

    Returns:
        For each of `Pool.sources` what is in it.
    """
    found = [Contents() for _ in pool.sources]
    for shard in range(pool.shards):
        part = found[pool.source_of(shard)]
        places = pool.places(shard)
        part.shards += 1
        part.samples += len(pool.shard_rows(shard))
        part.bytes += pool.shard_bytes(shard)
        for sizes, member in ((part.images, "image"), (part.captions, "caption")):
            offset_n, size_n = places[member]
            sizes.add(size_n[offset_n >= 0])
        part.extensions += extensions_of(pool.shard_table(shard))
        part.unusable += Counter(count_by_reason(pool.defects(shard)[1]))
        if sentence := pool.problem(shard):
            part.broken.append(sentence)
        on_each()
    return found
