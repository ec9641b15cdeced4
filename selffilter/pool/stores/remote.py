"""Shards on a server, through fsspec: s3://, gs://, hf://, https://, memory://, …."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import fsspec

from selffilter.patience import LASTING, patiently
from selffilter.pool.stores.file_systems import AT_ONCE, SILENCE_S, call, file_system, plainly
from selffilter.pool.stores.store import Span, Stat

ATTEMPTS = 8
"""Servers restart and throttle: with pauses that grow, this is patience for about a minute."""

_SLOWEST_BYTES_S = 64 << 10
"""A connection that brings less than this in a second is as good as none."""

_SCAN_BLOCK = 8 << 20
_SCAN_PART = 2 << 20
_THREADS = 16
_TAGS = (
    "ETag", "etag", "md5Hash", "blob_id", "mtime", "LastModified", "Last-Modified",
    "last_modified", "created",
)  # fmt: skip


class RemoteStore:
    """Reads ranges of files on a server, those of one call at the same time."""

    def stat(self, location: str) -> Stat:
        """See `Store`."""
        info = _ask(location, "info", timeout_s=2 * SILENCE_S)
        if info.get("type") == "directory":
            raise IsADirectoryError(f"{location} is a folder, no file")
        tag = next((info[key] for key in _TAGS if info.get(key)), "")
        return Stat(info.get("size"), str(tag))

    def open(self, location: str) -> BinaryIO:
        """See `Store`."""
        size = self.stat(location).size
        if size is None:
            raise OSError(f"{location}: the server does not say how long it is")
        return io.BufferedReader(_Ahead(self, location, size), _SCAN_BLOCK)

    def read(self, spans: Sequence[Span]) -> list[bytes]:
        """See `Store`. After a fault only what failed is asked for again."""
        # Nothing cannot be asked for: "bytes=5-4" is no range, and some answer it with everything.
        found = {place: b"" for place, span in enumerate(spans) if span.end <= span.start}

        def ask() -> None:
            missing = [place for place in range(len(spans)) if place not in found]
            faults: list[Exception] = []
            answers = _fetch([spans[place] for place in missing])
            for place, answer in zip(missing, answers, strict=True):
                if isinstance(answer, bytes):
                    found[place] = answer
                else:
                    faults.append(answer)
            if faults:  # first what no patience mends
                raise min(faults, key=lambda fault: _may_pass(fault))

        patiently(ask, (OSError,), ATTEMPTS)
        return [found[place] for place in range(len(spans))]


class _Ahead(io.RawIOBase):
    """A file on a server as a stream that can skip: what is skipped is not fetched."""

    def __init__(self, store: RemoteStore, location: str, size: int) -> None:
        self._store, self._location, self._size, self._at = store, location, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._size, self._at + len(buffer))
        # In parts at the same time: one connection alone is often slow.
        starts = range(self._at, end, _SCAN_PART)
        spans = [Span(self._location, start, min(end, start + _SCAN_PART)) for start in starts]
        count = 0
        for data in self._store.read(spans):
            buffer[count : count + len(data)] = data
            count += len(data)
        self._at += count
        return count


def _ask(location: str, name: str, *, timeout_s: float) -> Any:
    """Ask a location's file system something about it, patiently.

    Raises:
        UserError, OSError: See `plainly`.
    """

    def ask() -> Any:
        try:
            files = file_system(location)
            return call(files, name, files._strip_protocol(location), timeout_s=timeout_s)
        except Exception as error:
            raise plainly(error, location) from error

    return patiently(ask, (OSError,), ATTEMPTS)


def _fetch(spans: Sequence[Span]) -> list[bytes | Exception]:
    """Ask once for each span: its bytes, or what went wrong with it."""
    found: list[bytes | Exception] = [b""] * len(spans)
    groups: dict[int, list[int]] = {}
    systems: dict[int, Any] = {}
    for place, span in enumerate(spans):
        try:
            files = file_system(span.location)
        except Exception as error:  # some connect at once
            found[place] = plainly(error, span.location)
        else:
            systems[id(files)] = files
            groups.setdefault(id(files), []).append(place)
    for key, places in groups.items():
        answers = _fetch_from(systems[key], [spans[place] for place in places])
        for place, answer in zip(places, answers, strict=True):
            found[place] = _checked(answer, spans[place])
    return found


def _fetch_from(files: Any, spans: Sequence[Span]) -> list[Any]:
    if files.async_impl:
        return list(fsspec.asyn.sync(files.loop, _gather, files, spans))

    def one(span: Span) -> Any:
        # Without a cache: the usual one would read 5 MB ahead of each part.
        options: dict[str, Any] = {"cache_type": "none"}
        if files.protocol == "hf":
            options["size"] = span.end  # saves asking for it, once for each part
        path = files._strip_protocol(span.location)
        try:
            return files.cat_file(path, start=span.start, end=span.end, **options)
        except Exception as error:
            return error

    # The hub's file system asks in independent requests; of others (ftp, sftp) one does not know.
    threads = min(_THREADS, len(spans)) if files.protocol == "hf" else 1
    if threads == 1:
        return [one(span) for span in spans]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, spans))


async def _gather(files: Any, spans: Sequence[Span]) -> list[Any]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(span: Span) -> Any:
        # Not cat_ranges: a request that stalls has to end by itself, without the others.
        path = files._strip_protocol(span.location)
        seconds = 2 * SILENCE_S + (span.end - span.start) / _SLOWEST_BYTES_S
        async with gate:
            return await asyncio.wait_for(
                files._cat_file(path, start=span.start, end=span.end), seconds
            )

    return await asyncio.gather(*map(one, spans), return_exceptions=True)


def _checked(answer: Any, span: Span) -> bytes | Exception:
    if isinstance(answer, BaseException):
        return plainly(answer, span.location)
    size = span.end - span.start
    if len(answer) != size:
        return OSError(
            f"{span.location}: asked for {size} bytes at {span.start}, got {len(answer)}: it has "
            "become shorter, or the server does not give parts of files"
        )
    return bytes(answer)


def _may_pass(fault: Exception) -> bool:
    return isinstance(fault, OSError) and not isinstance(fault, LASTING)
