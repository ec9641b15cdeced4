"""Trying again what may pass: a server that is busy, a network file system that blinks."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

ATTEMPTS = 4
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 16.0

LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
"""Faults of the file system that no patience mends."""

T = TypeVar("T")

# Not Python's own generator: what a run draws must not depend on whether a server was busy.
_jitter = random.SystemRandom()


def patiently(
    action: Callable[[], T], faults: tuple[type[Exception], ...], attempts: int = ATTEMPTS
) -> T:
    """Do something; after a fault that may pass, try again, each time after a longer pause.

    A file that is not there, or may not be read, will not be there the next time either. Pauses
    are a little random, so that many processes that were turned away together do not come back
    together.

    Args:
        action: What is tried.
        faults: What may pass.
        attempts: How many times it is tried in all; 4 take at least 3.5 s of pauses, 8 take 47 s.

    Raises:
        FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError: At once.
        Exception: The last fault.
    """
    for attempt in range(attempts - 1):
        try:
            return action()
        except LASTING:
            raise
        except faults:
            pause = min(FIRST_PAUSE_S * 2**attempt, LONGEST_PAUSE_S)
            time.sleep(pause * _jitter.uniform(1.0, 1.25))
    return action()
