"""Shards on a file system."""

from __future__ import annotations

import os
import resource
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from selffilter.patience import patiently
from selffilter.pool.stores.store import Span, Stat


class LocalStore:
    """Reads with `os.pread`, so that nothing but what is asked for is read; keeps files open."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, int] = OrderedDict()
        # Room is left for the data loader's own pipes and shared memory.
        self._most_files = min(512, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)

    def stat(self, location: str) -> Stat:
        """See `Store`."""
        found = patiently(lambda: Path(location).stat(), (OSError,))
        return Stat(found.st_size, str(found.st_mtime_ns))

    def open(self, location: str) -> BinaryIO:
        """See `Store`."""
        return patiently(lambda: Path(location).open("rb"), (OSError,))

    def read(self, spans: Sequence[Span]) -> list[bytes]:
        """See `Store`."""
        return [patiently(lambda span=span: self._read(span), (OSError,)) for span in spans]  # type: ignore[misc]

    def _read(self, span: Span) -> bytes:
        try:
            fd = self._open_file(span.location)
            parts: list[bytes] = []
            at = span.start
            while at < span.end:
                part = os.pread(fd, span.end - at, at)
                if not part:
                    raise OSError("the file has become shorter")
                parts.append(part)
                at += len(part)
            return parts[0] if len(parts) == 1 else b"".join(parts)
        except OSError:
            self._close(span.location)  # a stale handle of a network file system stays stale
            raise

    def _open_file(self, location: str) -> int:
        fd = self._files.get(location)
        if fd is None:
            if len(self._files) >= self._most_files:
                self._close(next(iter(self._files)))
            fd = self._files[location] = os.open(location, os.O_RDONLY | os.O_CLOEXEC)
        self._files.move_to_end(location)
        return fd

    def _close(self, location: str) -> None:
        if (fd := self._files.pop(location, None)) is not None:
            os.close(fd)

    def __getstate__(self) -> dict[str, object]:
        """Leave open files behind when another process takes a copy."""
        return {**self.__dict__, "_files": OrderedDict()}
