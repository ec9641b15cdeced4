"""Instants of writing: what a process is doing to which file, and a way to die there.

Installed in a process that is to be killed, never in the product: the calls through which every
file of a run passes (opening, writing, syncing, renaming, linking) are watched from outside.
"""

from __future__ import annotations

import io
import mmap
import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ASIDE = re.compile(r"^\.(?P<name>.+)\.\d+\.[0-9a-f]{8}\.tmp$")
INSTANTS = (
    "created, empty",
    "half written",
    "written, not synced",
    "synced, not renamed",
    "renamed",
    "linked",
    "removed",
    "appending",
    "half a line appended",
)


@dataclass(frozen=True)
class Event:
    """Something happens to a file.

    Attributes:
        stage: Of the loop.
        file: Below the working directory.
        instant: One of `INSTANTS`.
    """

    stage: str
    file: str
    instant: str

    def line(self) -> str:
        """Return it as a line of text."""
        return "\t".join((self.stage, self.file, self.instant))

    @classmethod
    def of_line(cls, line: str) -> Event:
        """Read what `line` returned."""
        return cls(*line.rstrip("\n").split("\t"))


class Now:
    """What a process is doing, where another one can read it: memory that both have."""

    _BYTES = 512

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self._BYTES)

    def say(self, event: Event) -> None:
        """Say what begins."""
        self._memory[:] = event.line().encode().ljust(self._BYTES, b"\0")

    def read(self) -> Event:
        """Return what was said last."""
        text = self._memory[:].rstrip(b"\0").decode(errors="replace")
        return Event.of_line(text) if text.count("\t") == 2 else Event("beginning", "", "")


class Watch:
    """Watches the writes of this process, and dies at one of them.

    Args:
        now: Where it says what happens.
        target: Where to die; None: nowhere.
        record: A file to which every event is appended; None: none.
    """

    def __init__(self, now: Now, target: Event | None, record: Path | None) -> None:
        self._now, self._target = now, target
        self._record = None
        if record is not None:
            self._record = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._cwd = Path.cwd()
        self._home = os.getpid()
        self.stage = "opening"

    def install(self) -> None:
        """Watch from now on; for the rest of this process."""
        self._watch_stages()
        really_open, really_replace = Path.open, Path.replace
        really_sync, really_link, really_unlink = os.fsync, os.link, Path.unlink

        def opened(path: Path, mode: str = "r", *args: Any, **more: Any) -> Any:
            name = self._name(path)
            if name is None or os.getpid() != self._home or not set(mode) & set("wxa"):
                return really_open(path, mode, *args, **more)
            raw = io.FileIO(path, mode.replace("b", "").replace("t", ""))
            self._happens(name, "appending" if "a" in mode else "created, empty")
            file = _Halting(raw, lambda half: self._halfway(name, mode, half))
            return file if "b" in mode else io.TextIOWrapper(file, encoding="utf-8")

        def synced(descriptor: int) -> None:
            name = self._name(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
            if name is not None:
                self._happens(name, "written, not synced")
            really_sync(descriptor)

        def replaced(path: Path, target: Any) -> Path:
            name = self._name(path)
            if name is not None:
                self._happens(name, "synced, not renamed")
            done = really_replace(path, target)
            if name is not None:
                self._happens(name, "renamed")
            return done

        def linked(source: Any, target: Any, **more: Any) -> None:
            really_link(source, target, **more)
            name = self._name(Path(target))
            if name is not None:
                self._happens(name, "linked")

        def unlinked(path: Path, **more: Any) -> None:
            was_there, name = os.path.lexists(path), self._name(path)
            really_unlink(path, **more)
            if was_there and name is not None:
                self._happens(name, "removed")

        Path.open = opened  # type: ignore[method-assign, assignment]
        Path.replace = replaced  # type: ignore[method-assign, assignment]
        Path.unlink = unlinked  # type: ignore[method-assign, assignment]
        os.fsync, os.link = synced, linked  # type: ignore[assignment]

    def _watch_stages(self) -> None:
        from selffilter import run as loop

        def staged(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **more: Any) -> Any:
                self.stage = name
                self._now.say(Event(name, "", ""))
                return work(*args, **more)

            return call

        for name, work in loop.STAGES.items():
            loop.STAGES[name] = staged(name, work)
        loop.finish = staged("finish", loop.finish)
        loop.open_run = staged("opening", loop.open_run)

    def _name(self, path: Path) -> str | None:
        """Return the name that a file will have, below the working directory; None if outside."""
        absolute = path if path.is_absolute() else self._cwd / path
        if not absolute.is_relative_to(self._cwd):
            return None
        aside = _ASIDE.match(absolute.name)
        whole = absolute.with_name(aside["name"]) if aside else absolute
        return str(whole.relative_to(self._cwd))

    def _halfway(self, name: str, mode: str, half: Callable[[], None]) -> None:
        event = Event(self.stage, name, "half a line appended" if "a" in mode else "half written")
        if event == self._target:
            half()
        self._happens(name, event.instant)

    def _happens(self, name: str, instant: str) -> None:
        event = Event(self.stage, name, instant)
        self._now.say(event)
        if self._record is not None:
            os.write(self._record, (event.line() + "\n").encode())
        if event == self._target:
            os.kill(os.getpid(), signal.SIGKILL)


class _Halting(io.BufferedWriter):
    """A file whose first write can be cut off in the middle."""

    def __init__(self, raw: io.FileIO, at_first: Callable[[Callable[[], None]], None]) -> None:
        super().__init__(raw)
        self._at_first: Callable[[Callable[[], None]], None] | None = at_first

    def write(self, data: Any) -> int:
        at_first, self._at_first = self._at_first, None
        if at_first is not None:

            def half() -> None:
                super(_Halting, self).write(memoryview(data).cast("B")[: len(data) // 2])
                self.flush()

            at_first(half)
        return super().write(data)
