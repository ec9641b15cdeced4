"""Being asked to stop: a flag that the loop looks at between two steps."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Stopped(Exception):
    """The run was asked to stop; what is needed to go on is saved."""


class TornDown(Stopped):
    """torchrun ends this process, and may start it again: another rank has died."""


class StopRequest:
    """While entered, SIGINT, SIGTERM and SIGUSR1 ask to stop; a second SIGINT stops at once.

    Under torchrun, SIGINT and SIGTERM are torchrun's: it sends them to the ranks that are left when
    one has failed, and when it ends itself, and kills what is still there 30 s later. Who wants the
    run to stop for good sends SIGUSR1 to the ranks (launch/stoppable.sh does).

    Attributes:
        requested: Whether somebody asked.
    """

    def __init__(self) -> None:
        self.requested = False
        self._received: set[int] = set()
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

    @property
    def is_torn_down(self) -> bool:
        """Whether it is torchrun that ends this process, and nobody else has asked."""
        mine = signal.SIGUSR1 in self._received or not self._received
        return "TORCHELASTIC_RUN_ID" in os.environ and not mine

    def check_torn_down(self) -> None:
        """Stop here if torchrun ends this process: for where there is nothing to save.

        Raises:
            TornDown: If so.
        """
        if self.is_torn_down:
            raise TornDown

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._received.add(number)
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        name = signal.Signals(number).name
        print(f"\n{name}: finishing and saving what is begun …", file=sys.stderr, flush=True)
