"""The terminal: progress with rate and time left, and a table with a row a round."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn
from rich.progress import Task as ProgressTask
from rich.text import Text

from selffilter.plain_text import visible
from selffilter.progress import Bar, NoBar
from selffilter.store import RunStore
from selffilter.tracking.pace import Pace, rate
from selffilter.tracking.progress_file import ProgressFile
from selffilter.tracking.trackers import Record

LINE_EVERY_S = 30.0
"""Where nobody sees a bar move, a line each so many seconds."""

COLUMNS = (
    ("round", 5, "round"),
    ("samples", 9, "samples_seen"),
    ("loss", 6, "loss"),
    ("acc1 %", 7, "acc1"),
    ("recall %", 9, "mean_per_class_recall"),
    ("selected", 9, "selected"),
    ("precision", 10, "precision"),
    ("AUC", 6, "auc"),
    ("overlap", 8, "overlap"),
    ("cue (sd)", 13, "cue"),
)
"""Heading, width, and the key of a round's summary."""


class Screen:
    """Speaks to a person: rich on a terminal, a line now and then elsewhere, silent if told so.

    `selffilter.tracking.events.JsonScreen` says the same to a program.

    Args:
        quiet: Say nothing at all (ranks other than 0, ``--quiet``).
        console: Where to; the standard error by default.
    """

    def __init__(self, quiet: bool = False, console: Console | None = None) -> None:
        self.quiet = quiet
        self._console = console or Console(file=sys.stderr, highlight=False)
        self._heading_shown = False
        self._file: ProgressFile | None = None
        self._said = time.monotonic()

    def say(self, text: str) -> None:
        """Print some text as it is: names from a pool are no markup."""
        self._said = time.monotonic()
        if not self.quiet:
            self._console.print(Text(visible(text)), soft_wrap=True)

    def begin_table(self) -> None:
        """Let the next row have a heading again: another run begins."""
        self._heading_shown = False

    def begin_stage(self, round_: int, stage: str, samples_seen: int) -> None:
        """A stage begins, or goes on: for those who follow from elsewhere. People see its bars."""
        if self._file:
            self._file.begin(f"round {round_}  {stage}")

    def doing(self, title: str, what: str) -> None:
        """Say what goes on where nothing can be counted; only if nothing was said for a while."""
        if self._file:
            self._file.begin(title, what)
        if time.monotonic() - self._said >= LINE_EVERY_S:
            self.say(f"{title}  {what}".rstrip())

    @contextmanager
    def keeping(self, path: Path) -> Iterator[None]:
        """Keep what is shown in a file too while entered, for ``selffilter status --watch``."""
        self._file = ProgressFile(path)
        try:
            yield
        finally:
            self._file.end()
            self._file = None

    @contextmanager
    def bar(self, title: str, total: int, done: int = 0) -> Iterator[Bar]:
        """Show the progress of something long, counted in samples."""
        with self._shown(title, total, done) as shown:
            if self._file is None:
                yield shown
            else:
                with self._file.following(shown, title, total, done) as followed:
                    yield followed

    @contextmanager
    def _shown(self, title: str, total: int, done: int) -> Iterator[Bar]:
        if self.quiet:
            yield NoBar()
        elif self._console.is_terminal:
            with Progress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                _Rate(),
                TextColumn("{task.fields[note]}", markup=False),
                console=self._console,
                transient=True,
            ) as progress:
                task = progress.add_task(title, total=total, completed=done, note="", begun=done)
                yield _RichBar(progress, task)
        else:
            yield _LineBar(self, Pace(title, total, done, time.monotonic()))

    def round_row(self, summary: Record) -> None:
        """Print a round's row, and the heading before the first."""
        if self.quiet:
            return
        if not self._heading_shown:
            self._heading_shown = True
            self._console.print(Text(heading(), style="bold"), soft_wrap=True)
        self._console.print(Text(format_row(summary)), soft_wrap=True)


def heading() -> str:
    """Return the line above the rows."""
    return "".join(title.rjust(width) for title, width, _ in COLUMNS)


def format_row(summary: Record) -> str:
    """Return a round's summary as one line of the table."""
    return "".join(_cell(key, summary).rjust(width) for _, width, key in COLUMNS)


def what_lies_where(store: RunStore) -> str:
    """Return where a finished run's model, subset and metrics are."""
    final = store.final
    return (
        f"\nmodel    {final}    (open_clip: 'local-dir:{final}')\n"
        f"subset   {final}/subset.npy    (DataComp's format: sorted uids)\n"
        f"metrics  {store.root}/metrics.jsonl"
    )


def _cell(key: str, summary: Record) -> str:
    value: Any = summary.get(key)
    if key == "cue":
        value, error = summary.get("cue_sd"), summary.get("cue_sd_error")
        return "–" if not _number(value) else f"{value:+.2f}±{error:.2f}"
    if not _number(value):
        return "–"
    if key in ("acc1", "mean_per_class_recall"):
        return f"{100 * value:.1f}"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.2f}" if key == "loss" else f"{value:.3f}"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and value == value


class _RichBar:
    def __init__(self, progress: Progress, task: Any) -> None:
        self._progress, self._task = progress, task

    def advance(
        self, count: int, note: str = "", values: Mapping[str, float] | None = None
    ) -> None:
        self._progress.advance(self._task, count)
        if note:
            self._progress.update(self._task, note=note)


class _LineBar:
    """For logs: a line every half minute, and at the end."""

    def __init__(self, screen: Screen, pace: Pace) -> None:
        self._screen, self._pace = screen, pace
        self._last = time.monotonic()

    def advance(
        self, count: int, note: str = "", values: Mapping[str, float] | None = None
    ) -> None:
        self._pace.advance(count, note, values)
        now = time.monotonic()
        if now - self._last >= LINE_EVERY_S or self._pace.is_over:
            self._last = now
            pace = self._pace
            self._screen.say(f"{pace.title}  {pace.text(now)}  {pace.note}".rstrip())


class _Rate(ProgressColumn):
    def render(self, task: ProgressTask) -> Text:
        """Return done / total, rate and time left."""
        begun = task.fields.get("begun", 0)
        return Text(rate(int(task.completed), begun, int(task.total or 0), task.elapsed or 0.0))
