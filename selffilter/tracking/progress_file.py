"""What a run is doing right now, in a file: ``progress.json`` of the run directory.

It is for `selffilter status`, which may run on another machine. It is there only while the run's
process is, unless that was killed; `RunStore`'s lease tells the two apart.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selffilter.progress import Bar
from selffilter.store import write_atomically
from selffilter.tracking.pace import Pace

WRITE_EVERY_S = 2.0


class ProgressFile:
    """Keeps the file; a full disk or a hiccup of its file system never ends a run.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self, title: str, note: str = "") -> None:
        """Something begins of which nothing is counted (yet)."""
        self.write({"title": title, "note": note})

    @contextmanager
    def following(self, bar: Bar, title: str, total: int, done: int) -> Iterator[Bar]:
        """Return a bar that passes on what it is told, and writes it down now and then."""
        yield _Followed(self, bar, Pace(title, total, done, time.monotonic()))
        self.begin(title, "done")

    def end(self) -> None:
        """Nothing goes on any more."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def write(self, record: Mapping[str, Any]) -> None:
        """Write a record with the time."""
        text = json.dumps({**record, "time": time.time()}) + "\n"
        with contextlib.suppress(OSError):
            write_atomically(self._path, lambda file: file.write(text.encode()), durable=False)


class _Followed:
    def __init__(self, file: ProgressFile, bar: Bar, pace: Pace) -> None:
        self._file, self._bar, self._pace = file, bar, pace
        self._last = time.monotonic()
        file.write(pace.record(self._last))

    def advance(
        self, count: int, note: str = "", values: Mapping[str, float] | None = None
    ) -> None:
        self._bar.advance(count, note, values)
        self._pace.advance(count, note, values)
        now = time.monotonic()
        if now - self._last >= WRITE_EVERY_S:
            self._last = now
            self._file.write(self._pace.record(now))
