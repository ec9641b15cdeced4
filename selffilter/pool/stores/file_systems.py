"""fsspec's file systems as the stores use them: bounded in time, safe to fork with, plain errors.

Credentials and endpoints come from where fsspec's file systems look for them: environment variables
(``AWS_ENDPOINT_URL``, ``FSSPEC_S3_KEY``, ``FSSPEC_S3_ANON``, …) and ``~/.config/fsspec``.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
from typing import Any

import aiohttp
import fsspec
from fsspec.config import apply_config

from selffilter.errors import UserError
from selffilter.patience import LASTING

AT_ONCE = 128
"""Requests that one call has under way at the same time: with answers 60 ms late about 1,700 a
second, near what one process can ask for at all (benchmarks/pool/s3_latency.py)."""

CONNECT_S = 10.0
SILENCE_S = 30.0
"""A server that says nothing for so long has failed; it is asked again."""

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")

# Never emptied: when a file system that a parent process has used is collected in its child, it
# closes its connections, and takes them out of the event loop's epoll, which the two share. The
# parent then waits for ever for the answer to its next request (fsspec 2026.9.0, HTTPFileSystem;
# fsspec's own cache is emptied after a fork). So each process has its own ones, and keeps its
# parent's untouched.
_opened: dict[tuple[int, str, str], Any] = {}


def file_system(url: str) -> Any:
    """Return the fsspec file system of a URL, one for each server and process.

    It gives up on a silent server, and leaves trying again to `patience`.

    Raises:
        UserError: If nobody knows the protocol, or a package is missing.
    """
    protocol = url.partition("://")[0]
    try:
        kind = fsspec.get_filesystem_class(protocol)
    except ValueError as error:
        raise UserError(f"{url}: no file system is known for {protocol}://.") from error
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        what = f"pip install 'selffilter[{extra}]'" if extra else str(error)
        raise UserError(f"{url}: {protocol}:// needs a package that is missing: {what}.") from error
    options = kind._get_kwargs_from_urls(url)
    key = (os.getpid(), protocol, repr(sorted(options.items())))
    if key not in _opened:
        bounds = _bounds(protocol, apply_config(kind, {}))
        files = kind(**options, **bounds, skip_instance_cache=True)
        if protocol in ("s3", "s3a"):
            files.retries = 1
        _opened.setdefault(key, files)  # unless another thread was faster
    return _opened[key]


def plainly(error: BaseException, location: str) -> Exception:
    """Translate what a file system has raised: `OSError` for what may pass, and see below.

    Args:
        error: The file system's, botocore's, aiohttp's, … own error.
        location: What was asked for; every message names it.

    Returns:
        FileNotFoundError, PermissionError, IsADirectoryError: What no patience mends.
        UserError: Likewise, where the server is not fit to hold a pool.
        OSError: Everything else.
    """
    if location.startswith(("http://", "https://")):
        # HTTPFileSystem.info calls everything "not found", also a server that is busy.
        while isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception):
            error = error.__cause__
    said = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:  # without "[Errno 16]"
        said = error.strerror
    elif isinstance(error, TimeoutError) and not str(error):
        said = "no answer in time"
    if isinstance(error, UserError):
        return error
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), location)
    if isinstance(error, LASTING):
        return type(error)(f"{location}: {said}")
    if "Credentials" in type(error).__name__:  # botocore's and google.auth's
        return PermissionError(f"{location}: {said} (of a public bucket: set FSSPEC_S3_ANON=true)")
    return OSError(f"{location}: {said}")


def _bounds(protocol: str, configured: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a file system that bound how long it waits; the user's come first."""
    if protocol in ("http", "https"):
        client = configured.get("client_kwargs", {})
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
        # Ranges of what a server has compressed on the way would be ranges of something else.
        headers = {"Accept-Encoding": "identity", **client.get("headers", {})}
        client = {"timeout": timeout, "raise_for_status": _judge, **client, "headers": headers}
        return {"client_kwargs": client, "get_client": configured.get("get_client", _client)}
    if protocol in ("s3", "s3a"):
        settings = {
            "connect_timeout": CONNECT_S,
            "read_timeout": SILENCE_S,
            "max_pool_connections": AT_ONCE,  # botocore's own 10 would be the bound of a call
            "retries": {"total_max_attempts": 1},
        }
        return {"config_kwargs": settings | configured.get("config_kwargs", {})}
    return {}


async def _client(**settings: Any) -> aiohttp.ClientSession:
    # aiohttp's own limit of connections is 100.
    return aiohttp.ClientSession(**{"connector": aiohttp.TCPConnector(limit=AT_ONCE), **settings})


async def _judge(response: aiohttp.ClientResponse) -> None:
    """Judge an answer by its head, before its body is read."""
    url = str(response.url)
    error: Exception | None = None
    if response.status in (404, 410):
        error = FileNotFoundError(url)
    elif response.status in (401, 403):
        error = PermissionError(f"the server refuses access ({response.status} {response.reason})")
    elif response.status == 416:
        error = OSError("it has become shorter: what is asked for lies behind its end")
    elif response.status >= 400:
        error = OSError(f"the server answers {response.status} {response.reason}")
    elif response.status == 200 and (asked := _RANGE.match(_range_of(response))):
        first, last = map(int, asked.groups())
        if first > 0 or (response.content_length or last + 2) > last + 1:
            # A whole shard for each of many small parts would fill the memory.
            error = UserError(
                f"{url}: the server gives whole files alone, not parts of them (HTTP Range). Put "
                "the shards on another server, or on a disk."
            )
    if error is not None:
        response.close()
        raise error


def _range_of(response: aiohttp.ClientResponse) -> str:
    return response.request_info.headers.get("Range", "")


def call(files: Any, name: str, *args: Any, timeout_s: float, **kwargs: Any) -> Any:
    """Call a file system's method in bounded time, where it has an asynchronous form.

    Raises:
        Exception: Whatever the method raises.
    """
    if not files.async_impl:
        return getattr(files, name)(*args, **kwargs)

    async def bounded() -> Any:
        return await asyncio.wait_for(getattr(files, f"_{name}")(*args, **kwargs), timeout_s)

    return fsspec.asyn.sync(files.loop, bounded)
