"""Files on a server, through fsspec."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import aiohttp
import fsspec

from selffilter import patience
from selffilter.errors import UserError
from selffilter.pool.hub import hub_page

REMOTE_FAULTS = (OSError, aiohttp.ClientError)

T = TypeVar("T")


class RemoteFolder:
    """A folder at a URL.

    Args:
        url: One that fsspec knows: https://, hf://, s3://, memory://, …. A dataset's page on the
            Hugging Face hub stands for the files that it shows.

    Attributes:
        name: The last part of the URL.
        root: The folder, as its file system calls it.

    Raises:
        ValueError, ImportError: If fsspec does not know the protocol, or lacks a package for it.
    """

    def __init__(self, url: str) -> None:
        url = url.rstrip("/")
        self.name = url.rpartition("/")[2]
        if page := hub_page(url):
            self.name, url = page.name, page.files_url
        self._files, root = fsspec.core.url_to_fs(url)
        self.root = str(root).rstrip("/")

    def read(self, name: str) -> bytes:
        """Return the bytes of a small file.

        Raises:
            FileNotFoundError: If it is not there.
            UserError: If it cannot be read, also after some patience.
        """
        path = self._path(name)
        return bytes(patiently(lambda: self._files.cat_file(path), path))

    def size(self, name: str) -> tuple[int | None, str]:
        """Return a file's size and its tag, None and "" where the server does not say.

        Raises:
            FileNotFoundError, UserError: As `read`.
        """
        path = self._path(name)
        info = patiently(lambda: self._files.info(path), path)
        return info.get("size"), str(info.get("ETag") or "")

    def fetch(self, name: str, local: Path) -> None:
        """Copy a file to this machine.

        Raises:
            FileNotFoundError, UserError: As `read`.
        """
        path = self._path(name)
        patiently(lambda: self._files.get_file(path, str(local)), path)

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"


def patiently(action: Callable[[], T], what: str) -> T:
    """Ask a server; a passing fault is tried again, a missing file is not.

    Raises:
        FileNotFoundError: At once.
        UserError: After some attempts.
    """
    try:
        return patience.patiently(action, REMOTE_FAULTS)
    except FileNotFoundError:
        raise
    except REMOTE_FAULTS as error:
        said = str(error) or type(error).__name__
        raise UserError(
            f"{what} cannot be read, after {patience.ATTEMPTS} attempts: {said}"
        ) from error
