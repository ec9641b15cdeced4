"""Shards that a shell command writes: ``pipe:COMMAND``. Behind ``pool.allow_pipe`` alone."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from typing import Any, BinaryIO

from selffilter.patience import patiently
from selffilter.pool.stores.store import Span, Stat

PIPE = "pipe:"
_PIECE = 1 << 20
_END_S = 30.0
"""How long a command may go on after it has closed its output."""


class PipeStore:
    """Runs a shard's command and takes from its output what is asked for, in one go."""

    def stat(self, location: str) -> Stat:
        """See `Store`. A command tells nothing about what it will write."""
        return Stat(None, "")

    def open(self, location: str) -> BinaryIO:
        """See `Store`. Nothing runs before the first byte is wanted."""
        return io.BufferedReader(_Output(location), _PIECE)

    def read(self, spans: Sequence[Span]) -> list[bytes]:
        """See `Store`. A command runs once, whatever number of its spans is asked for."""
        found: list[bytes] = [b""] * len(spans)
        by_location: dict[str, list[int]] = {}
        for place, span in enumerate(spans):
            by_location.setdefault(span.location, []).append(place)
        for location, places in by_location.items():
            places.sort(key=lambda place: spans[place])
            with _Output(location) as output:
                first, window = 0, b""  # what was read last: spans may overlap
                for place in places:
                    span = spans[place]
                    if span.start >= output.tell():
                        output.seek(span.start)
                        first, window = span.start, b""
                    more = output.take(max(0, span.end - output.tell()))
                    first, window = span.start, window[span.start - first :] + more
                    found[place] = window[: span.end - span.start]
        return found


class _Output(io.RawIOBase):
    """The output of a command as a stream that can be skipped forward, and not back.

    A command that fails is begun anew, and what is known of its output skipped.
    """

    def __init__(self, location: str) -> None:
        self._location = location
        self._process: subprocess.Popen[bytes] | None = None
        self._said: Any = None
        self._written = 0  # what this run of the command has brought
        self._at = 0
        self._waste = bytearray(_PIECE)

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
        waste = memoryview(self._waste)
        while self._at < target and self.readinto(waste[: target - self._at]):
            pass
        return self._at

    def take(self, size: int) -> bytes:
        """Return exactly the next bytes.

        Raises:
            OSError: If there are not so many.
        """
        data = bytearray(size)
        view, count = memoryview(data), 0
        while count < size:
            part = self.readinto(view[count:])
            if not part:
                raise OSError(
                    f"{self._location}: the command wrote {self._at} bytes, "
                    f"{size - count} less than are needed: it writes less than it did"
                )
            count += part
        return bytes(data)

    def readinto(self, buffer: Any) -> int:
        return patiently(lambda: self._read_on(buffer), (OSError,))

    def _read_on(self, buffer: Any) -> int:
        try:
            waste = memoryview(self._waste)
            while self._written < self._at:  # after a failure
                if not self._read_some(waste[: self._at - self._written]):
                    raise OSError(f"{self._location}: the command writes less than it did")
            count = self._read_some(buffer)
        except OSError:
            self._stop()
            raise
        self._at += count
        return count

    def _read_some(self, buffer: Any) -> int:
        if self._process is None:
            self._begin()
        assert self._process is not None
        assert self._process.stdout is not None
        count = self._process.stdout.readinto(buffer)  # type: ignore[attr-defined]
        if not count and len(buffer):
            self._judge_end()
        self._written += count
        return int(count)

    def _begin(self) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            self._location.removeprefix(PIPE),
            shell=True,
            bufsize=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._said,
            # A process group of its own, so that all of a pipeline can be stopped.
            start_new_session=True,
        )

    def _judge_end(self) -> None:
        assert self._process is not None
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            raise OSError(
                f"{self._location}: the command has ended its output, but not itself"
            ) from None
        if code:
            self._said.seek(0)
            words = self._said.read()[-400:].decode(errors="replace").strip()
            raise OSError(f"{self._location}: the command ended with {code}: {words or 'no word'}")

    def _stop(self) -> None:
        if self._process is None:
            return
        process, self._process, self._written = self._process, None, 0
        assert process.stdout is not None
        process.stdout.close()
        if process.poll() is None:  # else its number may be another's by now
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._said.close()

    def close(self) -> None:
        if not self.closed:
            self._stop()
        super().close()
