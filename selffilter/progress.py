"""What long work moves forward; the terminal decides how that looks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Bar(Protocol):
    """Progress of something long."""

    def advance(
        self, count: int, note: str = "", values: Mapping[str, float] | None = None
    ) -> None:
        """Some more are done.

        Args:
            count: How many.
            note: What is worth seeing.
            values: The same as numbers by their names, for those who do not look but read.
        """


class NoBar:
    """Nobody is looking."""

    def advance(
        self, count: int, note: str = "", values: Mapping[str, float] | None = None
    ) -> None:
        """Say nothing."""
