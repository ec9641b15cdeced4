"""Everything that the page says about a run, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selffilter.errors import UserError
from selffilter.evaluation.truth import Truth
from selffilter.randomness import draw
from selffilter.reporting.draw_of_rows import Drawn, ShowBar, draw_rows
from selffilter.reporting.flow import Flow, count_flow
from selffilter.reporting.groups import Grouping, groupings_of
from selffilter.reporting.plane import Plane, lay_out
from selffilter.reporting.progress_of_run import Progress, progress_of
from selffilter.reporting.shapes import Shape, shapes_of
from selffilter.reporting.sheets import Sheet, choose_sheets
from selffilter.reporting.thumbnails import Tile, read_tiles
from selffilter.reporting.words import MOST_CAPTIONS, Words, find_words, read_captions
from selffilter.rundir.numbers import round_summary
from selffilter.rundir.on_disk import RunOnDisk
from selffilter.store import read_object


@dataclass(frozen=True)
class Found:
    """What was found out about a run; None and empty where there is nothing yet.

    Attributes:
        run: The run.
        progress: Its curves.
        summaries: The summaries of each round's finished stages in one.
        drawn: Followed rows.
        clean_S: Of them, 1 right pairs, 0 planted, -1 unknown; None: the truth is not known.
        flow: How samples moved.
        shapes: Distributions of scores.
        sheets: Pairs of contact sheets.
        tiles: Row → what is shown of it.
        words: Gained and lost.
        plane: The pool in a plane.
        groupings: Whom it favours.
        compute: Of a finished run, ``final/compute.json``.
        environment: ``environment.json``.
        notes: What could not be shown, and why.
    """

    run: RunOnDisk
    progress: Progress
    summaries: list[dict[str, Any]]
    environment: dict[str, Any]
    compute: dict[str, Any] | None
    drawn: Drawn | None = None
    clean_S: NDArray[np.int8] | None = None
    flow: Flow | None = None
    shapes: list[Shape] = field(default_factory=list)
    sheets: list[tuple[Sheet, Sheet]] = field(default_factory=list)
    tiles: dict[int, Tile] = field(default_factory=dict)
    words: Words | None = None
    plane: Plane | None = None
    groupings: list[Grouping] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @cached_property
    def quantile_RS(self) -> NDArray[np.float64]:
        """Where each followed row stands among all in each round, (R, S); NaN: without a score."""
        assert self.drawn is not None
        return np.stack([self.drawn.quantile_S(place) for place in range(len(self.drawn.rounds))])

    def showing(self, samples: int) -> Found:
        """Return the same with at most so many samples a sheet, which are among those of now."""
        if self.drawn is None or not self.sheets:
            return self
        seed = self.run.config.seed
        sheets = choose_sheets(self.drawn, samples, seed, self.clean_S) if samples else []
        note = f"The page would have more than 5 MB: a sheet shows at most {samples} samples."
        return replace(self, sheets=sheets, notes=[*self.notes, note])

    @property
    def selections(self) -> list[dict[str, Any]]:
        """The summaries of the rounds that have selected."""
        return [summary for summary in self.summaries if "selected" in summary]


def find_out(run: RunOnDisk, samples: int, bar: ShowBar) -> Found:
    """Look at a run.

    Args:
        run: The run, finished or not.
        samples: How many a contact sheet shows at most; 0: none.
        bar: Shows progress.

    Raises:
        UserError: If its index, or a table of a finished stage, is not there or not whole.
    """
    account = run.store.final / "compute.json"
    begun = Found(
        run,
        progress_of(run),
        [round_summary(run.store, round_) for round_ in run.store.rounds()],
        read_object(run.store.root / "environment.json"),
        read_object(account) if account.exists() else None,
    )
    return _with_rows(begun, samples, bar) if run.done("select") else begun


def _with_rows(begun: Found, samples: int, bar: ShowBar) -> Found:
    run, notes = begun.run, list[str]()
    drawn = draw_rows(run, bar)
    clean_S = _labels(run, drawn, notes)
    sheets = choose_sheets(drawn, samples, run.config.seed, clean_S) if samples else []
    tiles = _tiles(run, drawn, sheets, bar, notes)
    return Found(
        run,
        begun.progress,
        begun.summaries,
        begun.environment,
        begun.compute,
        drawn,
        clean_S,
        count_flow(run, bar),
        shapes_of(run, drawn, clean_S),
        sheets,
        tiles,
        _words(run, drawn, notes),
        _plane(run, drawn, notes),
        groupings_of(run),
        notes,
    )


def _labels(run: RunOnDisk, drawn: Drawn, notes: list[str]) -> NDArray[np.int8] | None:
    if not run.config.evaluate.truth:
        return None
    try:
        return Truth(Path(run.config.evaluate.truth), run.pool).labels(drawn.rows_S)
    except UserError as error:
        notes.append(f"Right and planted pairs are not told apart: {error}")
        return None


def _tiles(
    run: RunOnDisk,
    drawn: Drawn,
    sheets: list[tuple[Sheet, Sheet]],
    bar: ShowBar,
    notes: list[str],
) -> dict[int, Tile]:
    if not sheets:
        return {}
    chosen = np.unique(np.concatenate([sheet.chosen for pair in sheets for sheet in pair]))
    with bar("read samples", len(chosen)) as shown:
        tiles, why_not = read_tiles(run, drawn.rows_S[chosen], shown.advance)
    if why_not:
        notes.append(f"Samples are not all shown: {why_not}")
    return tiles


def _words(run: RunOnDisk, drawn: Drawn, notes: list[str]) -> Words | None:
    base = np.flatnonzero(drawn.base_S)
    rows = draw(drawn.rows_S[base], min(MOST_CAPTIONS, len(base)), run.config.seed, "words")
    try:
        run.pool.refuse_pipes(run.config.pool.allow_pipe)
    except UserError as error:
        notes.append(f"Captions are not read: {error}")
        return None
    captions, why_not = read_captions(run.pool, rows)
    if why_not:
        notes.append(f"Captions are not all read: {why_not}")
    there = np.array([bool(caption) for caption in captions], bool)
    if not there.any():
        return None
    places = np.searchsorted(drawn.rows_S, rows)[there]
    kept_RS = drawn.fate_RS[:, places] > 0
    return find_words([c for c in captions if c], kept_RS[0], kept_RS[-1])


def _plane(run: RunOnDisk, drawn: Drawn, notes: list[str]) -> Plane | None:
    try:
        return lay_out(run, drawn)
    except (UserError, OSError) as error:
        notes.append(f"There is no map: {error}")
        return None
