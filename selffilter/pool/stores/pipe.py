"""Shards that a shell command writes: ``pipe:COMMAND``. Behind ``pool.allow_pipe`` alone."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Sequence
from typing import Any, BinaryIO

from selffilter.pool.stores.store import Span, Stat

PIPE = "pipe:"
_PIECE = 1 << 20


class PipeStore:
    """Runs a shard's command and takes from its output what is asked for, in one go."""

    def stat(self, location: str) -> Stat:
        """See `Store`. A command tells nothing about what it will write."""
        return Stat(None, "")

    def open(self, location: str) -> BinaryIO:
        """See `Store`."""
        return io.BufferedReader(_Output(location), _PIECE)

    def read(self, spans: Sequence[Span]) -> list[bytes]:
        """See `Store`. A command runs once, whatever number of its spans is asked for."""
        found: list[bytes] = [b""] * len(spans)
        order = sorted(range(len(spans)), key=lambda i: spans[i])
        stream: BinaryIO | None = None
        location = ""
        try:
            for place in order:
                span = spans[place]
                if stream is None or span.location != location or span.start < stream.tell():
                    if stream is not None:
                        stream.close()
                    stream, location = self.open(span.location), span.location
                stream.seek(span.start)
                found[place] = stream.read(span.end - span.start)
                if len(found[place]) != span.end - span.start:
                    raise OSError(f"{location}: the command writes less than it did")
        finally:
            if stream is not None:
                stream.close()
        return found


class _Output(io.RawIOBase):
    """The output of a command as a stream that can be skipped forward, and not back."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._process = subprocess.Popen(
            location.removeprefix(PIPE),
            shell=True,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        self._stream = self._process.stdout
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        target = offset if whence == io.SEEK_SET else self._at + offset
        if whence == io.SEEK_END or target < self._at:
            raise OSError(f"{self._location}: a pipe cannot go back")
        while self._at < target:
            skipped = len(self._stream.read(min(_PIECE, target - self._at)))
            if not skipped:
                break
            self._at += skipped
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = self._stream.readinto(buffer)  # type: ignore[attr-defined]
        self._at += count
        if not count and self._process.wait():
            raise OSError(f"{self._location}: the command ended with {self._process.returncode}")
        return int(count)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
            self._process.kill()
            self._process.wait()
        super().close()
