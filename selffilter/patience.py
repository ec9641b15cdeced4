"""Trying again what may pass: a server that is busy, a network file system that blinks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

ATTEMPTS = 4
FIRST_PAUSE_S = 0.5

T = TypeVar("T")


def patiently(action: Callable[[], T], faults: tuple[type[Exception], ...]) -> T:
    """Do something; after a fault that may pass, try again, each time after a longer pause.

    A file that is not there, or may not be read, will not be there the next time either.

    Args:
        action: What is tried, up to `ATTEMPTS` times.
        faults: What may pass.

    Raises:
        FileNotFoundError, PermissionError: At once.
        Exception: The last fault.
    """
    for attempt in range(ATTEMPTS - 1):
        try:
            return action()
        except (FileNotFoundError, PermissionError):
            raise
        except faults:
            time.sleep(FIRST_PAUSE_S * 2**attempt)
    return action()
