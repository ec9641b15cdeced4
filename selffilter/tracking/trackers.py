"""Trackers take flat records; each record says its round, stage and samples_seen."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from selffilter.store import RunStore, iterate_jsonl, write_jsonl, write_text

Record = dict[str, Any]
STAGE_ORDER = ("train", "evaluate", "score", "select")


class Tracker(Protocol):
    """Somewhere records go."""

    def log(self, record: Record) -> None:
        """Take a record with at least ``kind``, ``round``, ``stage`` and ``samples_seen``."""

    def begin(self, round_: int, stage: str, samples_seen: int) -> None:
        """A stage begins, or goes on from a checkpoint at `samples_seen`."""

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

    def close(self) -> None:
        """Close all."""
        for tracker in self._trackers:
            tracker.close()


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
        path = self._path(record["round"])
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_json_safe(record)) + "\n")

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


def last_value(path: Path, kind: str, key: str) -> float:
    """Return the last value of a key in the records of a kind; NaN if there is none."""
    values = [record[key] for record in iterate_jsonl(path) if record["kind"] == kind]
    return float(values[-1]) if values and values[-1] is not None else math.nan


def _json_safe(record: Record) -> Record:
    """JSON has no NaN: what is undefined becomes null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in record.items()
    }
