"""What the pool asks of a place where shards lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO, NamedTuple, Protocol


class Stat(NamedTuple):
    """What tells whether a shard is still the same.

    Attributes:
        size: In bytes; None where the store does not say.
        tag: Time of modification or ETag; "" where the store gives neither.
    """

    size: int | None
    tag: str


class Span(NamedTuple):
    """A part of a shard.

    Attributes:
        location: The shard's path or URL.
        start: First byte.
        end: One past the last byte.
    """

    location: str
    start: int
    end: int


class Store(Protocol):
    """A place where shards lie. Faults that may pass are already tried again inside.

    Every error names the location. Of a server that cannot serve a pool at all (a package is
    missing, whole files alone), every method raises `UserError`.
    """

    def stat(self, location: str) -> Stat:
        """Return a shard's size and tag.

        Raises:
            FileNotFoundError, PermissionError, IsADirectoryError: At once, if that is how it is.
            OSError: If the store does not answer, also after some patience.
        """

    def open(self, location: str) -> BinaryIO:
        """Open a shard to be scanned from its beginning to its end, skipping forward.

        Raises:
            OSError: As `stat`.
        """

    def read(self, spans: Sequence[Span]) -> list[bytes]:
        """Return the bytes of spans, in their order; each one is a request.

        Threads may share a store.

        Raises:
            OSError: As `stat`; also if a shard has become shorter.
        """
