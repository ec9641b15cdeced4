"""Whom a run favours: how often the groups that it watches are selected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from selffilter.plain_text import clipped
from selffilter.rundir.on_disk import RunOnDisk
from selffilter.tables import RATES, read_table

_MOST_GROUPS = 9
_NAME_CHARS = 40


@dataclass(frozen=True)
class Grouping:
    """A grouping, its largest groups.

    Attributes:
        name: As in ``select.watch``.
        groups: How many groups the base has.
        rates: Name, relative rate in the first round and in the last (NaN: none), standard error
            of the last, rows in the base.
    """

    name: str
    groups: int
    rates: list[tuple[str, float, float, float, int]]


def groupings_of(run: RunOnDisk, most: int = _MOST_GROUPS) -> list[Grouping]:
    """Read the watched groupings of the last round, and what the first one did with their groups.

    Groupings of one group are left out. Clusters are each round's own: those of the first round
    are no forerunners of the last's.
    """
    rounds = [r for r in run.done("select") if (run.store.stage(r, "select") / RATES).exists()]
    if not rounds:
        return []
    first, last = (
        read_table(run.store.stage(r, "select") / RATES) for r in (rounds[0], rounds[-1])
    )
    found = []
    for name in dict.fromkeys(last["grouping"].to_pylist()):
        of_it = last.filter(pc.equal(last["grouping"], name)).sort_by([("base", "descending")])
        before = first.filter(pc.equal(first["grouping"], name))
        earlier: dict[str, float] = {}
        if name != "cluster" and len(rounds) > 1:
            earlier = dict(
                zip(before["group"].to_pylist(), before["relative_rate"].to_pylist(), strict=True)
            )
        if of_it.num_rows < 2:
            continue
        rates = [
            (
                clipped(row["group"], _NAME_CHARS),
                float(earlier.get(row["group"], np.nan)),
                float(row["relative_rate"]),
                float(row["standard_error"]),
                int(row["base"]),
            )
            for row in of_it.slice(0, most).to_pylist()
        ]
        found.append(Grouping(name, of_it.num_rows, rates))
    return found
