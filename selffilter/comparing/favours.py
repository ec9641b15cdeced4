"""How often groups are selected by each arm, and where arms differ most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import pyarrow.compute as pc

from selffilter.comparing.arms import Arm
from selffilter.comparing.seeds import Spread, spread
from selffilter.comparing.sides import Side
from selffilter.plain_text import clipped
from selffilter.selecting.bias import UNKNOWN_NAME
from selffilter.store import without_nan
from selffilter.tables import RATES, read_table

MOST_GROUPS = 9
_NAME_CHARS = 40
_OWN_TO_A_ROUND = "cluster"
"""Each round makes clusters anew: those of two runs have nothing to do with each other."""
_NO_RATE = ("base", "relative_rate", "standard_error")


@dataclass(frozen=True)
class Group:
    """A group of rows.

    Attributes:
        name: Harmless as text.
        rows: In the base; the largest count of any run.
        rates: Number of an arm → relative rate over its seeds (1: as often as the average row).
        apart: How far the two arms that differ most are apart, in standard errors of counting.
    """

    name: str
    rows: int
    rates: dict[int, Spread]
    apart: float


@dataclass(frozen=True)
class Favours:
    """A grouping that several arms watch.

    Attributes:
        grouping: As in ``select.watch``.
        groups: How many groups several arms have.
        shown: Those where arms differ most for their size, the surest difference first.
    """

    grouping: str
    groups: int
    shown: list[Group]


def favours_of(arms: Sequence[Arm], most: int = MOST_GROUPS) -> list[Favours]:
    """Read the groups' rates of each run's compared round, and set the arms beside each other."""
    read = {side.letter: _rates(side) for arm in arms for side in arm.sides if side.run is not None}
    names = dict.fromkeys(name for found in read.values() for name in found)
    compared = [_compare(name, arms, read, most) for name in names]
    return [found for found in compared if found.groups > 1]


def favours_record(found: Favours) -> dict[str, Any]:
    """Return it as plain values."""
    plain: dict[str, Any] = without_nan(asdict(found))
    return plain


_Rates = dict[str, tuple[int, float, float]]
"""Group → rows in the base, relative rate, its standard error."""


def _rates(side: Side) -> dict[str, _Rates]:
    assert side.run is not None and side.round is not None
    path = side.run.store.stage(side.round, "select") / RATES
    if not path.exists():
        return {}
    table = read_table(path, ["grouping", "group", *_NO_RATE])
    found: dict[str, _Rates] = {}
    for grouping in dict.fromkeys(table["grouping"].to_pylist()):
        if grouping == _OWN_TO_A_ROUND:
            continue
        rows = table.filter(pc.equal(table["grouping"], grouping)).to_pylist()
        found[grouping] = {row["group"]: tuple(row[key] for key in _NO_RATE) for row in rows}
    return found


def _compare(
    grouping: str, arms: Sequence[Arm], read: dict[str, dict[str, _Rates]], most: int
) -> Favours:
    by_arm = {
        arm.number: [read[side.letter][grouping] for side in arm.sides
                     if grouping in read.get(side.letter, {})]
        for arm in arms
    }  # fmt: skip
    by_arm = {number: found for number, found in by_arm.items() if found}
    names = dict.fromkeys(name for found in by_arm.values() for one in found for name in one)
    groups = [_group(name, by_arm) for name in names if name != UNKNOWN_NAME]
    shared = [group for group in groups if len(group.rates) > 1 and math.isfinite(group.apart)]
    shared.sort(key=lambda group: (-group.apart, -group.rows, group.name))
    return Favours(grouping, len(shared), shared[:most])


def _group(name: str, by_arm: dict[int, list[_Rates]]) -> Group:
    rates: dict[int, Spread] = {}
    errors: dict[int, float] = {}
    rows = 0
    for number, runs in by_arm.items():
        here = [run[name] for run in runs if name in run and math.isfinite(run[name][1])]
        if not here:
            continue
        rows = max(rows, *(base for base, _, _ in here))
        rates[number] = spread({place: rate for place, (_, rate, _) in enumerate(here)})
        # The seeds' selections are of one base: their counting errors do not average out wholly,
        # and that of one run is what is taken for all.
        errors[number] = max(error for _, _, error in here)
    apart = [
        abs(rates[a].mean - rates[b].mean) / math.hypot(errors[a], errors[b])
        for a, b in combinations(rates, 2)
        if math.hypot(errors[a], errors[b]) > 0
    ]
    return Group(clipped(name, _NAME_CHARS), rows, rates, max(apart, default=math.nan))
