"""Files on a server, through fsspec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from selffilter import patience
from selffilter.errors import UserError
from selffilter.pool.hub import hub_page
from selffilter.pool.stores.file_systems import file_system, plainly


class RemoteFolder:
    """A folder at a URL.

    Args:
        url: One that fsspec knows: https://, hf://, s3://, memory://, …. A dataset's page on the
            Hugging Face hub stands for the files that it shows.

    Attributes:
        name: The last part of the URL.
        url: Of the folder.

    Raises:
        UserError: If fsspec does not know the protocol, or lacks a package for it.
    """

    def __init__(self, url: str) -> None:
        url = url.rstrip("/")
        self.name = url.rpartition("/")[2]
        if page := hub_page(url):
            self.name, url = page.name, page.files_url
        self.url = url
        file_system(url)

    def read(self, name: str) -> bytes:
        """Return the bytes of a small file.

        Raises:
            FileNotFoundError: If it is not there.
            UserError: If it cannot be read, also after some patience.
        """
        return bytes(self._ask(name, "cat_file"))

    def size(self, name: str) -> tuple[int | None, str]:
        """Return a file's size and its tag, None and "" where the server does not say.

        Raises:
            FileNotFoundError, UserError: As `read`.
        """
        info = self._ask(name, "info")
        return info.get("size"), str(info.get("ETag") or "")

    def fetch(self, name: str, local: Path) -> None:
        """Copy a file to this machine.

        Raises:
            FileNotFoundError, UserError: As `read`.
        """
        self._ask(name, "get_file", str(local))

    def _ask(self, name: str, method: str, *args: str) -> Any:
        """Ask patiently: a passing fault is tried again, a missing file is not."""
        location = f"{self.url}/{name}"

        def ask() -> Any:
            try:
                files = file_system(location)
                return getattr(files, method)(files._strip_protocol(location), *args)
            except Exception as error:
                raise plainly(error, location) from error

        try:
            return patience.patiently(ask, (OSError,))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise UserError(
                f"{location} cannot be read, after {patience.ATTEMPTS} attempts: {error}"
            ) from error
