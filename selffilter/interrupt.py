"""Being asked to stop: a flag that the loop looks at between two steps."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Stopped(Exception):
    """The run was asked to stop; what is needed to go on is saved."""


class StopRequest:
    """While entered, SIGINT, SIGTERM and SIGUSR1 ask to stop; a second SIGINT stops at once.

    Attributes:
        requested: Whether somebody asked.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        # Signals belong to the main thread; a loop run from another one cannot be asked.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def ask(self) -> None:
        """Ask to stop, from inside."""
        self.requested = True

    def check(self) -> None:
        """Stop here if somebody asked.

        Raises:
            Stopped: If so.
        """
        if self.requested:
            raise Stopped

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        name = signal.Signals(number).name
        print(f"\n{name}: finishing the step, then saving …", file=sys.stderr, flush=True)
