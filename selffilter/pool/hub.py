"""Pages of data sets on the Hugging Face hub: what a person copies from the browser."""

from __future__ import annotations

import re
from typing import NamedTuple

_PAGE = re.compile(
    r"https://huggingface\.co/datasets/([^/]+/[^/]+)(?:/(?:tree|resolve)/([^/]+)(?:/(.+))?)?"
)


class HubPage(NamedTuple):
    """A data set's page, or that of a folder in it.

    Attributes:
        dataset: ``owner/name``.
        branch: The branch, tag or commit shown.
        folder: The folder shown; "" for all of it.
    """

    dataset: str
    branch: str
    folder: str

    @property
    def name(self) -> str:
        """The last part of the page's address."""
        return (self.folder or self.dataset).rpartition("/")[2]

    @property
    def files_url(self) -> str:
        """Below this address single files are served to any client; it cannot be listed."""
        return self._below(f"https://huggingface.co/datasets/{self.dataset}/resolve/{self.branch}")

    @property
    def listed_url(self) -> str:
        """The same for fsspec's own file system of the hub, which lists, and knows tokens."""
        return self._below(f"hf://datasets/{self.dataset}@{self.branch}")

    def _below(self, url: str) -> str:
        return f"{url}/{self.folder}" if self.folder else url


def hub_page(url: str) -> HubPage | None:
    """Return what page a URL is of; None if it is none of a data set's."""
    found = _PAGE.fullmatch(url.rstrip("/"))
    return HubPage(found[1], found[2] or "main", found[3] or "") if found else None
