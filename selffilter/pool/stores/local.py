"""Shards on a file system."""

from __future__ import annotations

import contextlib
import os
import resource
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from selffilter.patience import LASTING, patiently
from selffilter.pool.stores.store import Span, Stat

_MOST_FILES = 512


class LocalStore:
    """Reads with `os.pread`, so that nothing but what is asked for is read; keeps files open.

    `os.pread` leaves no trace in the open file: threads may share it, and so may a process and the
    one it was forked from.
    """

    def __init__(self) -> None:
        self._files: OrderedDict[str, _File] = OrderedDict()

    def stat(self, location: str) -> Stat:
        """See `Store`."""
        found = patiently(lambda: Path(location).stat(), (OSError,))
        return Stat(found.st_size, str(found.st_mtime_ns))

    def open(self, location: str) -> BinaryIO:
        """See `Store`."""
        return patiently(lambda: Path(location).open("rb"), (OSError,))

    def read(self, spans: Sequence[Span]) -> list[bytes]:
        """See `Store`."""
        if len(spans) > 1:
            self.announce(spans)
        return [patiently(lambda span=span: self._read(span), (OSError,)) for span in spans]  # type: ignore[misc]

    def announce(self, spans: Sequence[Span]) -> None:
        """Tell the system what will be read, so that a disk has it all in its queue at once."""
        for span in spans:
            # What is wrong with a file is said when it is read.
            with contextlib.suppress(OSError):
                self._open_file(span.location).announce(span)

    def _read(self, span: Span) -> bytes:
        file = self._open_file(span.location)
        try:
            return file.read(span)
        except OSError as error:
            # A stale handle of a network file system stays stale: the next attempt opens anew.
            self._files.pop(span.location, None)
            if isinstance(error, LASTING):
                error.filename = span.location  # of a read it is not told
            if error.filename is not None:
                raise
            raise OSError(f"{span.location}: {error}") from error

    def _open_file(self, location: str) -> _File:
        file = self._files.get(location)
        if file is None:
            file = self._files[location] = _File(location)
        # Without a lock, which a fork could leave locked for ever: another thread may take a file
        # out at any line, and whoever has one in hand keeps it open.
        with contextlib.suppress(KeyError):
            self._files.move_to_end(location)
            while len(self._files) > _most_files():
                self._files.popitem(last=False)
        return file

    def __getstate__(self) -> dict[str, object]:
        """Leave open files behind when another process takes a copy."""
        return {**self.__dict__, "_files": OrderedDict()}


class _File:
    """An open file, closed when nobody holds it any more."""

    def __init__(self, location: str) -> None:
        self._fd = -1
        self._fd = os.open(location, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, span: Span) -> bytes:
        parts: list[bytes] = []
        at = span.start
        while at < span.end:
            part = os.pread(self._fd, span.end - at, at)
            if not part:
                raise OSError(
                    f"it ends at byte {at}, before byte {span.end}: it has become shorter"
                )
            parts.append(part)
            at += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def announce(self, span: Span) -> None:
        if hasattr(os, "posix_fadvise"):  # not on macOS
            size = span.end - span.start
            os.posix_fadvise(self._fd, span.start, size, os.POSIX_FADV_WILLNEED)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def _most_files() -> int:
    # Room is left for the data loader's own pipes and shared memory, and for connections.
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_FILES if limit == resource.RLIM_INFINITY else max(1, min(_MOST_FILES, limit // 4))
