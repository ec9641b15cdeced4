"""``selffilter run --json``: what happens, one JSON object a line, for programs that follow a run.

Every line has ``event`` and ``time`` (Unix, s):

- ``stage``: ``round``, ``stage``, ``samples_seen``. One begins, or goes on.
- ``progress``: ``title``, ``done``, ``total``, ``per_second``, ``seconds_left`` (null: not known
  yet), ``note``, and numbers such as ``loss`` and ``data_wait``; when something long begins, every
  five seconds, and at its end. Where nothing can be counted, ``title`` and ``note`` alone.
- ``round``: the round's summary.
- ``message``: ``text``.
- ``end``: ``code`` (the exit code), ``message``, ``run_dir``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from selffilter.endings import ending_of
from selffilter.progress import Bar
from selffilter.store import without_nan
from selffilter.tracking.console import Screen
from selffilter.tracking.pace import Pace
from selffilter.tracking.trackers import Record

EVENT_EVERY_S = 5.0


class JsonScreen(Screen):
    """Says everything as JSON lines.

    Args:
        out: Where to; the standard output by default.
    """

    def __init__(self, out: IO[str] | None = None) -> None:
        super().__init__(quiet=True)
        self._out = out or sys.stdout

    def emit(self, event: str, **values: Any) -> None:
        """Write a line."""
        record = {"event": event, "time": time.time()} | values
        self._out.write(json.dumps(without_nan(record), default=str) + "\n")
        self._out.flush()

    @contextmanager
    def until_end(self, run_dir: Path) -> Iterator[JsonScreen]:
        """While entered a run goes on; leaving says how it has ended, with what exit code."""
        try:
            yield self
        except Exception as error:
            ending = ending_of(error)
            self.emit("end", code=ending.code, message=ending.message, run_dir=run_dir)
            raise
        self.emit("end", code=0, message="", run_dir=run_dir)

    def say(self, text: str) -> None:
        """Pass on a text."""
        self.emit("message", text=text.strip("\n"))

    def begin_stage(self, round_: int, stage: str, samples_seen: int) -> None:
        """Say that a stage begins."""
        super().begin_stage(round_, stage, samples_seen)
        self.emit("stage", round=round_, stage=stage, samples_seen=samples_seen)

    def doing(self, title: str, what: str) -> None:
        """Say what goes on where nothing can be counted."""
        super().doing(title, what)
        self.emit("progress", title=title, note=what)

    def round_row(self, summary: Record) -> None:
        """Pass on a round's summary."""
        self.emit("round", **summary)

    @contextmanager
    def _shown(self, title: str, total: int, done: int) -> Iterator[Bar]:
        bar = _EventBar(self, Pace(title, total, done, time.monotonic()))
        yield bar
        bar.end()


class _EventBar:
    def __init__(self, screen: JsonScreen, pace: Pace) -> None:
        self._screen, self._pace = screen, pace
        self._tell(time.monotonic())

    def advance(
        self, count: int, note: str = "", values: Mapping[str, float] | None = None
    ) -> None:
        self._pace.advance(count, note, values)
        now = time.monotonic()
        if now - self._last >= EVENT_EVERY_S:
            self._tell(now)

    def end(self) -> None:
        self._tell(time.monotonic())

    def _tell(self, now: float) -> None:
        self._last = now
        self._screen.emit("progress", **self._pace.record(now))
