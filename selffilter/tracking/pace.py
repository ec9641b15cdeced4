"""How fast something long goes, and how much time is left."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


class Pace:
    """Progress of something long, by a clock that the caller reads.

    Args:
        title: What it is.
        total: How many there are to do.
        done: How many were done before this process began with it: they do not count as its speed.
        now: When it begins, in seconds of a clock that does not go back.

    Attributes:
        title: As given.
        total: As given.
        done: How many are done by now.
        note: What is worth seeing.
        values: The same as numbers by their names.
    """

    def __init__(self, title: str, total: int, done: int, now: float) -> None:
        self.title, self.total, self.done = title, total, done
        self.note = ""
        self.values: dict[str, float] = {}
        self._begun, self._since = done, now

    def advance(
        self, count: int, note: str = "", values: Mapping[str, float] | None = None
    ) -> None:
        """Some more are done."""
        self.done += count
        self.note = note or self.note
        self.values = dict(values or self.values)

    @property
    def is_over(self) -> bool:
        """Whether all is done."""
        return self.done >= self.total

    def text(self, now: float) -> str:
        """Return done, total, rate and time left (or taken) for people."""
        return rate(self.done, self._begun, self.total, now - self._since)

    def record(self, now: float) -> dict[str, Any]:
        """Return the same for programs; ``seconds_left`` is None while no rate is known."""
        seconds = now - self._since
        per_second = (self.done - self._begun) / seconds if seconds > 0 else 0.0
        left = max(0, self.total - self.done) / per_second if per_second > 0 else None
        numbers = {k: v if math.isfinite(v) else None for k, v in self.values.items()}
        return {
            "title": self.title,
            "done": self.done,
            "total": self.total,
            "per_second": per_second,
            "seconds_left": left,
            "note": self.note,
            **numbers,
        }


def rate(done: int, begun: int, total: int, seconds: float) -> str:
    """Return ``done/total  rate  time left``; at the end the time taken."""
    per_second = (done - begun) / seconds if seconds > 0 else 0.0
    going_on = per_second > 0 and done < total
    left = f"{clock((total - done) / per_second)} left" if going_on else clock(seconds)
    return f"{done:,}/{total:,}  {_plain(per_second)}/s  {left}"


def clock(seconds: float) -> str:
    """Return a duration as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _plain(per_second: float) -> str:
    """Return a rate: slow things (shards, sets) with decimals."""
    return f"{per_second:.2f}" if 0 < per_second < 10 else f"{per_second:,.0f}"
