"""What long work moves forward; the terminal decides how that looks."""

from __future__ import annotations

from typing import Protocol


class Bar(Protocol):
    """Progress of something long."""

    def advance(self, count: int, note: str = "") -> None:
        """Some more are done; `note` says what is worth seeing."""


class NoBar:
    """Nobody is looking."""

    def advance(self, count: int, note: str = "") -> None:
        """Say nothing."""
