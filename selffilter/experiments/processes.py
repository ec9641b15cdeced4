"""A run as a process of its own: started, asked to stop, reaped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Protocol


class Running(Protocol):
    """A run at work."""

    def poll(self) -> int | None:
        """Return its exit code, or None while it works."""

    def ask_to_stop(self) -> None:
        """Let it save and stop."""

    def kill(self) -> None:
        """Stop it at once."""


class Launcher(Protocol):
    """Whatever can begin a run."""

    def start(self, words: list[str], log: Path) -> Running:
        """Begin ``selffilter WORDS``; what it says is added to `log`."""


class _Process:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def poll(self) -> int | None:
        return self._process.poll()

    def ask_to_stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class Processes:
    """Starts ``python -m selffilter``.

    A child has a session of its own: Ctrl-C in the terminal reaches this process alone, which asks
    each child once (a second signal would stop it without saving).

    Args:
        jobs: How many run at a time; the cores are shared out unless OMP_NUM_THREADS is set.
        environment: Of this process.
    """

    def __init__(self, jobs: int, environment: dict[str, str] | None = None) -> None:
        before = dict(os.environ) if environment is None else environment
        threads = max(1, (os.cpu_count() or 1) // jobs)
        self.environment = {"OMP_NUM_THREADS": str(threads)} | before

    def start(self, words: list[str], log: Path) -> Running:
        """Begin ``selffilter WORDS``; what it says is added to `log`."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            return _Process(
                subprocess.Popen(
                    [sys.executable, "-m", "selffilter", *words],
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env=self.environment,
                    start_new_session=True,
                )
            )


def last_words(log: Path, lines: int = 3) -> str:
    """Return the last lines of a log that hold something."""
    if not log.exists():
        return ""
    text = log.read_bytes()[-20_000:].decode("utf-8", "replace")
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])
