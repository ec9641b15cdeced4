"""Why a row cannot be used. Counted by reason everywhere, so that nothing vanishes silently."""

from __future__ import annotations

import enum

import numpy as np
from numpy.typing import NDArray


class Failure(enum.IntEnum):
    """The verdict on a row; stored as uint8."""

    none = 0
    missing_image = 1
    missing_caption = 2
    duplicate_uid = 3
    image_unreadable = 4
    image_truncated = 5
    image_too_large = 6
    caption_unreadable = 7
    caption_empty = 8


class UnusableSample(Exception):
    """A sample that will never be usable, with its reason (a passing I/O fault is no reason)."""

    def __init__(self, failure: Failure, detail: str = "") -> None:
        super().__init__(f"{failure.name}: {detail}")
        self.failure = failure


def count_by_reason(
    failure_N: NDArray[np.uint8], reasons: type[enum.IntEnum] = Failure
) -> dict[str, int]:
    """Return how many rows failed for each reason that occurs, ``{"image_truncated": 3, …}``."""
    codes, counts = np.unique(failure_N[failure_N != 0], return_counts=True)
    return {reasons(int(c)).name: int(n) for c, n in zip(codes, counts, strict=True)}
