"""What the new shards are made of, read from the source in the order it stands there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from selffilter.pool.captions import MAX_MEMBER_BYTES
from selffilter.pool.failures import Failure
from selffilter.pool.index import Pool
from selffilter.pool.materialise.layout import cut_by_bytes
from selffilter.pool.row_reader import RowReader

_READ_BYTES = 64 << 20
"""Read at a time: what stands in memory twice while it is cut out of what was read."""
_SAMPLE_BYTES = 1024
"""What a sample takes besides its members' bytes."""


class Sizes(NamedTuple):
    """Bytes of the members of rows, each (N,) int64; 0 where there is none."""

    image: NDArray[np.int64]
    caption: NDArray[np.int64]
    json: NDArray[np.int64]

    def too_large(self, max_image_bytes: int) -> NDArray[np.uint8]:
        """Return why a row is not read at all (`Failure`), (N,) uint8."""
        failure = np.zeros(len(self.image), dtype=np.uint8)
        failure[self.caption > MAX_MEMBER_BYTES] = Failure.caption_unreadable
        failure[self.image > max_image_bytes] = Failure.image_too_large
        return failure

    def to_read(self, max_image_bytes: int) -> NDArray[np.int64]:
        """Return how many bytes of each row are read and held."""
        json = np.where(self.json > MAX_MEMBER_BYTES, 0, self.json)
        total = self.image + self.caption + json + _SAMPLE_BYTES
        return np.where(self.too_large(max_image_bytes) == 0, total, 0)


class Source(NamedTuple):
    """The bytes of a row, or why there are none; see `failures.Failure`.

    Attributes:
        failure: Why the row is not read.
        image: Its encoded image.
        caption: The member with captions; None: it has none.
        about: Its json; None: it has none, or one that is too large to be read.
        has_json: Whether it has one.
    """

    failure: Failure
    image: bytes | None = None
    caption: bytes | None = None
    about: bytes | None = None
    has_json: bool = False


def sizes_of(pool: Pool, rows_N: NDArray[np.int64]) -> Sizes:
    """Look up how large the members of rows are; `rows_N` in any order."""
    found = np.zeros((3, len(rows_N)), dtype=np.int64)
    shard_N = pool.shard_of(rows_N)
    order = np.argsort(shard_N, kind="stable")
    shards, begins = np.unique(shard_N[order], return_index=True)
    for shard, here in zip(shards.tolist(), np.split(order, begins[1:]), strict=True):
        places = pool.places(shard)
        local = rows_N[here] - pool.first_row[shard]
        for member, name in enumerate(Sizes._fields):
            offset_n, size_n = places[name]
            found[member, here] = np.where(offset_n[local] >= 0, size_n[local], 0)
    return Sizes(*found)


def fetch(
    pool: Pool,
    reader: RowReader,
    rows_E: NDArray[np.int64],
    *,
    max_image_bytes: int,
    budget: int,
    should_go_on: Callable[[], None] = lambda: None,
) -> Iterator[Source]:
    """Yield what rows are made of, in the order given, which is none that a tar could be read in.

    Args:
        pool: Where the rows are.
        reader: Reads them.
        rows_E: (E,) int64; a row may stand several times.
        max_image_bytes: Larger images are not read.
        budget: Bytes held at a time: rows are taken in parts of at most so many, and those of a
            part are read in the order in which they stand in the source.
        should_go_on: Called between two reads; may raise.
    """
    sizes = sizes_of(pool, rows_E)
    failure_E = sizes.too_large(max_image_bytes)
    bytes_E = sizes.to_read(max_image_bytes)
    for part in cut_by_bytes(bytes_E, budget):
        unique, first_of, place_of = np.unique(rows_E[part], return_index=True, return_inverse=True)
        json_n, failure_n = sizes.json[part][first_of], failure_E[part][first_of]
        large_n = json_n > MAX_MEMBER_BYTES
        has_json_n = json_n > 0
        held: list[Source] = [Source(Failure(f)) for f in failure_n.tolist()]
        for members, chosen in (
            (("image", "caption", "json"), (failure_n == 0) & ~large_n),
            (("image", "caption"), (failure_n == 0) & large_n),
        ):
            places = np.flatnonzero(chosen)
            for some in cut_by_bytes(bytes_E[part][first_of][places], _READ_BYTES):
                should_go_on()
                read = reader.read(unique[places[some]], members)
                for place, found in zip(places[some].tolist(), read, strict=True):
                    image, caption, about = (*found, None)[:3]
                    held[place] = Source(
                        Failure.none, image, caption, about, bool(has_json_n[place])
                    )
        for place in place_of.tolist():
            yield held[place]
