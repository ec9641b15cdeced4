"""Trackers take records, each with its round, stage and samples_seen, and what a round has made."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from selffilter.store import (
    RunStore,
    append_line,
    iterate_jsonl,
    without_nan,
    write_jsonl,
    write_text,
)
from selffilter.tracking.shown import Output, RoundShown

Record = dict[str, Any]
STAGE_ORDER = ("train", "evaluate", "score", "select")
AXES = ("round", "samples_seen")
_COUNTED = ("alarms", "vanishing")


class Tracker(Protocol):
    """Somewhere records go."""

    def log(self, record: Record) -> None:
        """Take a record with at least ``kind``, ``round``, ``stage`` and ``samples_seen``."""

    def begin(self, round_: int, stage: str, samples_seen: int) -> None:
        """A stage begins, or goes on from a checkpoint at `samples_seen`."""

    def end_round(self, shown: RoundShown) -> None:
        """A round has selected; what there is to show of it is made when it is asked for."""

    def end_run(self, output: Output) -> None:
        """The run is finished and has exported."""

    def close(self) -> None:
        """No more records will come from this process."""


class Trackers:
    """Several trackers as one."""

    def __init__(self, trackers: Iterable[Tracker]) -> None:
        self._trackers = list(trackers)

    def log(self, record: Record) -> None:
        """Give a record to all."""
        for tracker in self._trackers:
            tracker.log(record)

    def begin(self, round_: int, stage: str, samples_seen: int) -> None:
        """Tell all that a stage begins."""
        for tracker in self._trackers:
            tracker.begin(round_, stage, samples_seen)

    def end_round(self, shown: RoundShown) -> None:
        """Show a round to all."""
        for tracker in self._trackers:
            tracker.end_round(shown)

    def end_run(self, output: Output) -> None:
        """Tell all that the run is finished."""
        for tracker in self._trackers:
            tracker.end_run(output)

    def close(self) -> None:
        """Close all."""
        for tracker in self._trackers:
            tracker.close()


class Dispensable:
    """A tracker that a run can do without: the first thing that goes wrong with it is its last.

    A service that cannot be reached, or a full disk of its own, never ends a training of days.

    Args:
        tracker: The tracker.
        name: What a person calls it.
        say: Told what went wrong.
    """

    def __init__(self, tracker: Tracker, name: str, say: Callable[[str], None]) -> None:
        self._tracker: Tracker | None = tracker
        self._name, self._say = name, say

    def log(self, record: Record) -> None:
        """Pass on a record."""
        self._try(lambda tracker: tracker.log(record))

    def begin(self, round_: int, stage: str, samples_seen: int) -> None:
        """Pass on that a stage begins."""
        self._try(lambda tracker: tracker.begin(round_, stage, samples_seen))

    def end_round(self, shown: RoundShown) -> None:
        """Pass on a round."""
        self._try(lambda tracker: tracker.end_round(shown))

    def end_run(self, output: Output) -> None:
        """Pass on that the run is finished."""
        self._try(lambda tracker: tracker.end_run(output))

    def close(self) -> None:
        """Close it."""
        self._try(lambda tracker: tracker.close())

    def _try(self, what: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            what(self._tracker)
        except Exception as error:
            self._tracker = None
            words = f"{type(error).__name__}: {error}".splitlines()[0]
            self._say(f"{self._name} fails ({words}); the run goes on without it")


class JsonlTracker:
    """``rounds/RRR/metrics.jsonl``, and all of them together in ``metrics.jsonl``.

    What was logged after the checkpoint that a stage goes on from is taken back, so nothing stands
    twice. (The first mean loss after it is over fewer steps, if the checkpoint did not fall on a
    multiple of ``train.log_every_steps``.)
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store

    def log(self, record: Record) -> None:
        """Append a record."""
        append_line(self._path(record["round"]), json.dumps(without_nan(record)))

    def begin(self, round_: int, stage: str, samples_seen: int) -> None:
        """Take back what will be logged again."""
        path = self._path(round_)
        if not path.exists():
            return
        place = STAGE_ORDER.index(stage)
        kept = [
            record
            for record in iterate_jsonl(path)
            if STAGE_ORDER.index(record["stage"]) < place
            or (stage == record["stage"] == "train" and 0 < samples_seen >= record["samples_seen"])
        ]
        write_jsonl(path, kept)

    def end_round(self, shown: RoundShown) -> None:
        """Everything of it lies in the round's folder."""

    def end_run(self, output: Output) -> None:
        """Everything lies in the run directory."""

    def gather(self) -> None:
        """Write the records of all rounds into one file."""
        rounds = [self._path(round_) for round_ in self._store.rounds()]
        texts = [path.read_text(encoding="utf-8") for path in rounds if path.exists()]
        write_text(self._store.root / "metrics.jsonl", "".join(texts))

    def close(self) -> None:
        """Gather a last time."""
        self.gather()

    def _path(self, round_: int) -> Path:
        return self._store.round(round_) / "metrics.jsonl"


def numbers_of(record: Record) -> dict[str, float]:
    """Return the numbers of a record by their names, for trackers that know nothing else.

    What is nested gets names with slashes; of ``alarms`` and ``vanishing`` groups, which are lists,
    it is how many there are. Axes and what is not finite are left out.
    """
    return {key: v for key, v in _numbers("", record) if key not in AXES}


def _numbers(name: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, bool | int | float):
        if math.isfinite(value):
            yield name, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _numbers(f"{name}/{key}" if name else str(key), each)
    elif isinstance(value, list) and name.split("/")[0] in _COUNTED:
        yield name, len(value)


def kind_of(record: Record) -> str:
    """Return what a record's numbers are filed under: its kind, and of evaluation its set."""
    kind = str(record["kind"])
    return f"{kind}/{record['set']}" if kind == "zero_shot" else kind


def last_value(path: Path, kind: str, key: str) -> float:
    """Return the last value of a key in the records of a kind; NaN if there is none."""
    values = [record[key] for record in iterate_jsonl(path) if record["kind"] == kind]
    return float(values[-1]) if values and values[-1] is not None else math.nan
