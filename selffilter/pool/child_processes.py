"""Processes that work for this one: they end with it, and Ctrl-C is for it alone."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing import parent_process


@contextlib.contextmanager
def deaf_to_ctrl_c() -> Iterator[None]:
    """Begin processes that Ctrl-C passes by: it is for this one, which lets them come to an end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited, also by what is spawned
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def end_with_parent() -> None:
    """Called in a process that was begun: nobody is left behind when the one above is killed."""
    threading.Thread(target=_wait_for_its_end, daemon=True).start()


def _wait_for_its_end() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
