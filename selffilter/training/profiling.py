"""A trace of some steps: what host and device did, and when."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.profiler import ProfilerActivity, profile

from selffilter.store import write_text

_LINES = 40


class Profiling(L.Callback):
    """Profiles the steps of a window; what is left are two files in a folder.

    ``trace.json.gz`` is a timeline for chrome://tracing or ui.perfetto.dev; ``trace.txt`` lists the
    operators that took most time. A step begins when the one before has ended: waiting for its
    batch is part of it.

    Args:
        steps: The window, as steps of the run.
        folder: Where the files go.
    """

    def __init__(self, steps: range, folder: Path) -> None:
        self._steps, self._folder = steps, folder
        self._profile: profile | None = None

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Begin, if the window begins here (Lightning's hook)."""
        self._begin_or_end(module)

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        """Begin before the window's first step, end after its last (Lightning's hook)."""
        self._begin_or_end(module)

    def on_train_end(self, trainer: Any, module: Any) -> None:
        """Write what there is of a window that goes on beyond the round (Lightning's hook)."""
        self._end()

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        """Write what there is (Lightning's hook)."""
        self._end()

    def _begin_or_end(self, module: Any) -> None:
        if self._profile is None and module.step in self._steps:
            # Said before the first: its library tells the user of every GPU that is not there.
            os.environ.setdefault("KINETO_LOG_LEVEL", "99")
            activities = [ProfilerActivity.CPU]
            if module.device.type == "cuda":
                activities.append(ProfilerActivity.CUDA)
            self._profile = profile(activities=activities, record_shapes=True, profile_memory=True)
            self._profile.start()
        elif module.step not in self._steps:
            self._end()

    def _end(self) -> None:
        if self._profile is None:
            return
        self._profile.stop()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._profile.export_chrome_trace(str(self._folder / "trace.json.gz"))
        by = f"self_{'device' if torch.cuda.is_available() else 'cpu'}_time_total"
        table = self._profile.key_averages().table(sort_by=by, row_limit=_LINES)
        write_text(self._folder / "trace.txt", table)
        self._profile = None
