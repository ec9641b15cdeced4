"""Starts of the command line as processes of their own, a second each.

They are forked from a process that has imported what a run needs (multiprocessing's forkserver), so
that a test can begin, stop and kill several.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path

PATIENCE_S = 240


def forkserver() -> ForkServerContext:
    """Return the context whose processes begin with everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "lightning", "selffilter.cli", "selffilter.run"])
    return context


class Start:
    """``selffilter WORDS`` in a folder.

    Args:
        folder: The working directory.
        words: Of the command line.
        first: Is called in the process before; a function of a module's.
    """

    _number = 0

    def __init__(
        self, folder: Path, *words: str, first: Callable[[], object] | None = None
    ) -> None:
        Start._number += 1
        self._said = folder.parent / f"said-{Start._number}.txt"
        self._process = forkserver().Process(
            target=_main, args=(folder, self._said, words, first), daemon=False
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def said(self) -> str:
        """What it has said so far."""
        return self._said.read_text() if self._said.exists() else ""

    def wait_for(self, what: Callable[[], bool]) -> None:
        """Return when something has come about; fail if the process ends before."""
        deadline = time.monotonic() + PATIENCE_S
        while not what():
            assert self._process.is_alive(), f"it ended with {self._process.exitcode}: {self.said}"
            assert time.monotonic() < deadline, f"nothing happened: {self.said}"
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def end(self) -> int:
        """Return the exit code (of a signal: negative) when it has ended."""
        self._process.join(PATIENCE_S)
        if self._process.is_alive():
            self._process.kill()
            raise AssertionError(f"it hangs: {self.said}")
        assert self._process.exitcode is not None
        return self._process.exitcode


def _main(
    folder: Path, said: Path, words: tuple[str, ...], first: Callable[[], object] | None
) -> None:
    from selffilter import cli

    os.chdir(folder)
    os.environ |= {"CUDA_VISIBLE_DEVICES": ""}
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    sys.argv = ["selffilter", *words]
    if first is not None:
        first()
    cli.main()
