"""What runs have noted down about themselves: the guard's alarms, what they were made with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from selffilter.comparing.sides import Side
from selffilter.config import leaves
from selffilter.plain_text import clipped
from selffilter.store import read_object

_SENTENCE_CHARS = 300
_OF_THE_RUN = ("seed", "pool", "continued", "moved", "forked_from")
"""Of ``environment.json``: what is no version; the config and the pool tell of it."""


def alarms_of(side: Side) -> list[dict[str, Any]]:
    """Return the guard's alarms up to the compared round: round, name and sentence of each."""
    assert side.run is not None and side.round is not None
    return [
        {
            "round": round_,
            "name": clipped(str(alarm["name"]), 80),
            "sentence": clipped(str(alarm["sentence"]), _SENTENCE_CHARS),
        }
        for round_ in side.run.done("select")
        if round_ <= side.round
        for alarm in side.run.store.summary(round_, "select").get("alarms") or []
    ]


def environment_differences(runs: Sequence[Side]) -> dict[str, list[Any]]:
    """Return what runs were made with that is not the same of all: name → value in each run."""
    read = []
    for side in runs:
        assert side.run is not None
        record = read_object(side.run.store.root / "environment.json")
        of_all = {key: value for key, value in record.items() if key not in _OF_THE_RUN}
        read.append(dict(leaves(of_all)))
    names = sorted({name for record in read for name in record})
    values = {name: [record.get(name) for record in read] for name in names}
    return {name: those for name, those in values.items() if any(v != those[0] for v in those)}
