"""The bytes of rows: from a pack if one lies here, else from their places in the tars.

What stands near each other in a tar is read in one request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selffilter.errors import StoreGone
from selffilter.pool.captions import MAX_MEMBER_BYTES, CaptionKey, decode_captions
from selffilter.pool.coalesce import coalesce
from selffilter.pool.failures import Failure
from selffilter.pool.index import Pool
from selffilter.pool.packs import Packs
from selffilter.pool.stores.find import Stores, is_far
from selffilter.pool.stores.store import Span

REQUEST_BYTES = 8192
"""What a request is worth, unless the config says otherwise."""

_DENSE = 0.2
"""Where so large a share of a far shard is wanted at once, it is read in one piece: over http a
request takes as long as some 30 kB, over S3 as some 120 kB (benchmarks/pool/s3_latency.py), and
what is left out between two samples of 20 kB is not much more."""

_NO_LIMIT = np.iinfo(np.int64).max

RowBytes = tuple[bytes | None, ...]
"""The bytes of some members of a row, None for a member that it does not have."""


@dataclass
class Reads:
    """What reading has cost.

    Attributes:
        wanted_bytes: Bytes of the members that were asked for.
        packed_bytes: How many of them came from packs.
        read_bytes: Bytes read from shards for the rest.
        requests: In so many requests.
    """

    wanted_bytes: int = 0
    packed_bytes: int = 0
    read_bytes: int = 0
    requests: int = 0

    def since(self, before: Reads) -> Reads:
        """Return what was added."""
        mine, its = vars(self), vars(before)
        return Reads(**{name: mine[name] - its[name] for name in mine})


def size_limits(max_image_bytes: int | None) -> dict[str, int]:
    """Return how large a member may be, in bytes, to be read."""
    texts = {"caption": MAX_MEMBER_BYTES, "json": MAX_MEMBER_BYTES}
    return texts if max_image_bytes is None else {"image": max_image_bytes, **texts}


def members_read(key: CaptionKey) -> tuple[str, ...]:
    """Return the members of a row that a sample is made of."""
    # Where captions stand in the json alone, the index calls that the caption's place.
    both = key.uses_json and key.member is not None
    return ("image", "caption", "json") if both else ("image", "caption")


def captions_in(key: CaptionKey, texts: Sequence[bytes | None]) -> list[str]:
    """Return the captions in what was read of a row.

    Args:
        key: Where captions stand.
        texts: The bytes of the `members_read` behind the image.

    Raises:
        UnusableSample: See `decode_captions`.
    """
    return decode_captions(
        key,
        texts[0] if key.member is not None else None,
        texts[-1] if key.uses_json else None,
    )


class RowReader:
    """Reads rows. One per process; a copy in another process has stores of its own.

    Args:
        pool: Where the rows are.
        request_bytes: Parts of a shard with at most this gap between them are read as one.
        packs: What was fetched ahead; None: nothing.
        limits: Member → bytes; a larger one is not read. None: no bound.

    Attributes:
        pool: As given.
        reads: What reading has cost so far.
    """

    def __init__(
        self,
        pool: Pool,
        request_bytes: int = REQUEST_BYTES,
        packs: Packs | None = None,
        limits: Mapping[str, int] | None = None,
    ) -> None:
        self.pool = self._pool = pool
        self._limits = dict(limits or {})
        self._request_bytes = request_bytes
        self._packs = packs
        self._stores = Stores()
        self.reads = Reads()

    def read(
        self, rows_N: NDArray[np.int64], members: Sequence[str] = ("image", "caption")
    ) -> list[RowBytes]:
        """Return the bytes of some members of rows.

        Args:
            rows_N: (N,) int64, in any order.
            members: Some of ``image``, ``caption``, ``json``.

        Returns:
            A tuple a row, in the order asked; None where the row has no such member, or too large a
            one (`has` tells).

        Raises:
            StoreGone: If a shard cannot be read, also after some patience.
        """
        found: list[list[bytes | None]] = [[None] * len(members) for _ in range(len(rows_N))]
        spans: list[Span] = []
        cuts: list[tuple[int, int, int, int, int]] = []  # row, member, span, first byte, size
        shard_N = self._pool.shard_of(rows_N)
        for shard in np.unique(shard_N).tolist():
            here = np.flatnonzero(shard_N == shard)
            local = rows_N[here] - self._pool.first_row[shard]
            if self._packs is not None:
                here, local = self._from_pack(shard, here, local, members, found)
            self._plan(shard, here, local, members, spans, cuts)
        self._fetch(spans, cuts, found)
        return [tuple(row) for row in found]

    def member(self, row: int, what: str) -> bytes | None:
        """Return the bytes of one member of a row; None if it has none. See `read`."""
        return self.read(np.array([row], dtype=np.int64), (what,))[0][0]

    def has(self, row: int, member: str) -> bool:
        """Whether a row has a member, of whatever size."""
        shard = int(self._pool.shard_of(np.array([row]))[0])
        offset_n, _ = self._pool.places(shard)[member]
        return bool(offset_n[row - self._pool.first_row[shard]] >= 0)

    def failure(self, row: int, failure: Failure) -> Failure:
        """Tell what was too large to be read, by the `limits`, from what is not there."""
        if failure == Failure.missing_image and self.has(row, "image"):
            return Failure.image_too_large
        if failure == Failure.missing_caption and self.has(row, "caption"):
            return Failure.caption_unreadable
        return failure

    def _from_pack(
        self,
        shard: int,
        here: NDArray[np.int64],
        local: NDArray[np.int64],
        members: Sequence[str],
        found: list[list[bytes | None]],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Take what a pack has; return which rows are still to be read."""
        assert self._packs is not None
        pack = self._packs.open(self._pool.fingerprint(shard))
        if pack is None or not pack.holds(members):
            return here, local
        place_n = pack.places(local)
        for place, row in zip(place_n.tolist(), here.tolist(), strict=True):
            if place >= 0:
                found[row] = [pack.read(place, member) for member in members]
                size = sum(len(data) for data in found[row] if data is not None)
                self.reads.wanted_bytes += size
                self.reads.packed_bytes += size
        return here[place_n < 0], local[place_n < 0]

    def _plan(
        self,
        shard: int,
        here: NDArray[np.int64],
        local: NDArray[np.int64],
        members: Sequence[str],
        spans: list[Span],
        cuts: list[tuple[int, int, int, int, int]],
    ) -> None:
        """Add the spans of a shard that hold the rows, and where each member stands in them."""
        places = self._pool.places(shard)
        offset_M = np.concatenate([places[member][0][local] for member in members])
        size_M = np.concatenate([places[member][1][local] for member in members])
        row_M = np.tile(here, len(members))
        member_M = np.repeat(np.arange(len(members)), len(here))
        limit_M = np.repeat([self._limits.get(member, _NO_LIMIT) for member in members], len(here))
        there = (offset_M >= 0) & (size_M <= limit_M)
        offset_M, size_M, row_M, member_M = (x[there] for x in (offset_M, size_M, row_M, member_M))
        location = self._pool.location(shard)
        dense = is_far(location) and size_M.sum() > _DENSE * self._pool.shard_bytes(shard)
        ranges = coalesce(offset_M, size_M, _NO_LIMIT if dense else self._request_bytes)
        first = offset_M - ranges.start_R[ranges.range_N]
        number = ranges.range_N + len(spans)
        cuts += zip(
            row_M.tolist(),
            member_M.tolist(),
            number.tolist(),
            first.tolist(),
            size_M.tolist(),
            strict=True,
        )
        spans += [
            Span(location, start, end)
            for start, end in zip(ranges.start_R.tolist(), ranges.end_R.tolist(), strict=True)
        ]

    def _fetch(
        self,
        spans: list[Span],
        cuts: list[tuple[int, int, int, int, int]],
        found: list[list[bytes | None]],
    ) -> None:
        try:
            parts = self._stores.read(spans)
        except OSError as error:
            raise StoreGone(str(error)) from error
        self.reads.requests += len(spans)
        self.reads.read_bytes += sum(map(len, parts))
        for row, member, number, first, size in cuts:
            found[row][member] = parts[number][first : first + size]
            self.reads.wanted_bytes += size

    def __getstate__(self) -> dict[str, object]:
        """Open anew what was open when another process takes a copy."""
        return {**self.__dict__, "_stores": Stores(), "reads": Reads()}
