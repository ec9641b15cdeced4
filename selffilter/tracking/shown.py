"""What a round has to show beside its numbers: histograms, samples, files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from PIL import Image


@dataclass(frozen=True)
class Bins:
    """How many scores lie in each of some bins of equal width.

    Attributes:
        part: Whose scores: ``base``, ``confident``, ``diverse``, ``probe``.
        low: Lower edge of the first bin.
        high: Upper edge of the last.
        counts: Of each bin.
    """

    part: str
    low: float
    high: float
    counts: Sequence[int]


@dataclass(frozen=True)
class Example:
    """A sample of a table.

    Attributes:
        row: Its number in the pool's index.
        uid: 32 hex digits.
        caption: Its captions, made harmless and short; or why there are none.
        image: Small; None if it cannot be read.
        score: By this round's table; NaN: none.
        place: Share of the scored base that it is better than; NaN: it has no score.
        place_before: Likewise in the round before.
        share: ``confident``, ``diverse`` or "" in this round's selection.
    """

    row: int
    uid: str
    caption: str
    image: Image.Image | None
    score: float
    place: float
    place_before: float
    share: str


@dataclass(frozen=True)
class SampleTable:
    """Samples that have something in common.

    Attributes:
        name: E.g. ``newly_kept``.
        examples: At least one.
    """

    name: str
    examples: Sequence[Example]


@dataclass(frozen=True)
class Output:
    """Something that a run has made, and what it was made from.

    Attributes:
        kind: ``config``, ``model``, ``scores``, ``selection`` or ``final``.
        version: What tells it from others of its kind: ``round-001``; of the run's one ``final``.
        root: The folder that names inside it are relative to.
        small: Files that are always worth keeping beside the numbers.
        large: Files that may be too large for that.
        made_from: ``KIND:VERSION`` of other outputs of the same run.
        about: Plain values.
    """

    kind: str
    version: str
    root: Path
    small: Sequence[Path] = ()
    large: Sequence[Path] = ()
    made_from: Sequence[str] = ()
    about: dict[str, Any] = field(default_factory=dict)


class RoundShown(Protocol):
    """A finished round; each method reads what it needs when it is called."""

    @property
    def round(self) -> int:
        """Its number."""

    @property
    def samples_seen(self) -> int:
        """At its end."""

    def histograms(self) -> list[Bins]:
        """Return the scores' histograms; none where nothing is scored."""

    def tables(self, count: int) -> list[SampleTable]:
        """Return tables of at most so many samples each."""

    def outputs(self) -> list[Output]:
        """Return what the round has made."""
