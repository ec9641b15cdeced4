"""Shards on a server, through fsspec: s3://, gs://, hf://, https://, memory://, …."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, BinaryIO

import aiohttp
import fsspec

from selffilter.patience import patiently
from selffilter.pool.stores.store import Span, Stat

FAULTS = (OSError, aiohttp.ClientError, TimeoutError)
"""What may pass. s3fs and gcsfs translate their own errors to OSError."""

_SCAN_BLOCK = 4 << 20


class RemoteStore:
    """Reads ranges of files on a server, those of one call at the same time.

    Credentials and endpoints come from where fsspec's file systems look for them: environment
    variables (``AWS_ENDPOINT_URL``, ``FSSPEC_S3_KEY``, …) and ``~/.config/fsspec``.
    """

    def stat(self, location: str) -> Stat:
        """See `Store`."""
        info = _ask(location, lambda files, path: files.info(path))
        tag = next((info[key] for key in _TAGS if info.get(key)), "")
        return Stat(info.get("size"), str(tag))

    def open(self, location: str) -> BinaryIO:
        """See `Store`."""
        size = self.stat(location).size
        if size is None:
            raise OSError(f"{location}: the server does not say how long it is")
        return io.BufferedReader(_Ahead(self, location, size), _SCAN_BLOCK)

    def read(self, spans: Sequence[Span]) -> list[bytes]:
        """See `Store`."""
        if not spans:
            return []
        # One call for all of them: an asynchronous file system asks for all at the same time.
        files, _ = fsspec.core.url_to_fs(spans[0].location)
        paths = [files._strip_protocol(span.location) for span in spans]
        starts, ends = [span.start for span in spans], [span.end for span in spans]

        def ask() -> list[bytes]:
            return [bytes(part) for part in files.cat_ranges(paths, starts, ends, on_error="raise")]

        found = _patiently(ask, spans[0].location)
        for part, span in zip(found, spans, strict=True):
            if len(part) != span.end - span.start:
                raise OSError(
                    f"{span.location}: asked for {span.end - span.start} bytes at {span.start}, "
                    f"got {len(part)}; it has become shorter, or the server does not give parts "
                    "of files"
                )
        return found


_TAGS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "created")


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
        if end <= self._at:
            return 0
        (data,) = self._store.read([Span(self._location, self._at, end)])
        buffer[: len(data)] = data
        self._at = end
        return len(data)


def _ask(location: str, action: Any) -> Any:
    files, path = fsspec.core.url_to_fs(location)
    return _patiently(lambda: action(files, path), location)


def _patiently(action: Any, location: str) -> Any:
    try:
        return patiently(action, FAULTS)
    except OSError:
        raise
    except FAULTS as error:  # so that callers know one kind of fault alone
        raise OSError(f"{location}: {error or type(error).__name__}") from error
