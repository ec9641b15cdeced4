"""Final numbers of arms over their seeds, and by how much arms differ, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from selffilter.comparing.arms import Arm
from selffilter.comparing.seeds import Difference, Spread, Values, paired_difference, spread
from selffilter.plain_text import clipped
from selffilter.reporting.axes import signed
from selffilter.rundir.numbers import Row
from selffilter.store import without_nan

RESAMPLES = 4000
"""Of the bootstrap."""
_MOST_ARMS_IN_PAIRS = 3
_TITLE_CHARS = 80
_ALSO = ("mean_per_class_recall", "mean_reciprocal_rank")
OF_A_ROUND = (("precision", "right pairs among the confident"), ("auc", "AUC of the scores"))


@dataclass(frozen=True)
class Measure:
    """One final number of all runs.

    Attributes:
        set: The evaluation set; None: it is of the last selection.
        metric: Which number.
        title: What it is, for a person.
        percent: Whether it is shown in percent.
        values: Number of an arm → its seeds' values; arms without any are left out.
    """

    set: str | None
    metric: str
    title: str
    percent: bool
    values: dict[int, Values]

    @property
    def spreads(self) -> dict[int, Spread]:
        """Mean and standard deviation over the seeds of each arm."""
        return {number: spread(values) for number, values in self.values.items()}


@dataclass(frozen=True)
class Paired:
    """An arm minus another.

    Attributes:
        of: Number of the arm that is asked about.
        versus: Of what it is held against.
        difference: Over the seeds that both have.
    """

    of: int
    versus: int
    difference: Difference


def main_metric(rows: Sequence[Row], set_: str) -> str:
    """Return the metric that stands first in the records of an evaluation set; "": none."""
    return next((row["metric"] for row in rows if row["set"] == set_), "")


def measures_of(
    arms: Sequence[Arm], numbers: Mapping[str, Sequence[Row]], metric: str | None = None
) -> list[Measure]:
    """Return the final numbers that say most: of each evaluation set, and against the truth.

    Args:
        arms: Of runs and subsets.
        numbers: Letter of a run → its evaluations and rounds.
        metric: Of evaluation sets, where they have it; None: the first of each, and the mean over
            classes or queries.
    """
    every = [row for rows in numbers.values() for row in rows]
    sets = dict.fromkeys(row["set"] for row in every if row["set"] is not None)
    asked: list[tuple[str | None, str, str, bool]] = []
    for set_ in sets:
        known = {row["metric"] for row in every if row["set"] == set_}
        shown = (metric,) if metric in known else (main_metric(every, set_), *_ALSO)
        for name in dict.fromkeys(shown):
            if name in known:
                title = clipped(f"{set_}: {str(name).replace('_', ' ')}", _TITLE_CHARS)
                asked.append((set_, str(name), title, True))
    asked += [(None, name, title, name == "precision") for name, title in OF_A_ROUND]
    found = []
    for set_, name, title, percent in asked:
        last = {arm.number: _last(arm, numbers, set_, name) for arm in arms}
        values: dict[int, Values] = {number: those for number, those in last.items() if those}
        if values:
            found.append(Measure(set_, name, title, percent, values))
    return found


def paired(measure: Measure, arms: Sequence[Arm]) -> list[Paired]:
    """Return the differences between arms on the seeds that both have.

    Of each two arms, the later minus the earlier; of more than `_MOST_ARMS_IN_PAIRS`, each minus
    the first alone.
    """
    there = [arm.number for arm in arms if arm.number in measure.values]
    pairs = list(combinations(there, 2))
    if len(there) > _MOST_ARMS_IN_PAIRS:
        pairs = [(there[0], other) for other in there[1:]]
    found = []
    for versus, of in pairs:
        difference = paired_difference(measure.values[of], measure.values[versus], RESAMPLES)
        if difference.seeds:
            found.append(Paired(of, versus, difference))
    return found


def measure_record(measure: Measure, arms: Sequence[Arm]) -> dict[str, Any]:
    """Return a measure, its spreads and differences as plain values."""
    plain: dict[str, Any] = without_nan(
        {
            "set": measure.set,
            "metric": measure.metric,
            "arms": [
                {"arm": number, **asdict(found), "by_seed": dict(measure.values[number])}
                for number, found in measure.spreads.items()
            ],
            "paired": [
                {"of": x.of, "versus": x.versus, **asdict(x.difference)}
                for x in paired(measure, arms)
            ],
        }
    )
    return plain


def plus_minus(found: Spread | None, *, percent: bool, places: int | None = None) -> str:
    """Write a mean with its standard deviation, where there is one."""
    if found is None:
        return "–"
    factor, digits = (100.0, 1) if percent else (1.0, 3)
    spec = f",.{digits if places is None else places}f"
    told = signed(factor * found.mean, spec)
    return told if found.seeds < 2 else f"{told} ± {factor * found.sd:{spec}}"


def points(value: float, percent: bool) -> str:
    """Write a difference, in points where it is of percentages."""
    return signed(value * (100 if percent else 1), "+.1f" if percent else "+.3f")


def _last(
    arm: Arm, numbers: Mapping[str, Sequence[Row]], set_: str | None, metric: str
) -> dict[int, float]:
    """Return the last value of each seed, of rounds up to the one that is compared."""
    found = {}
    for side in arm.sides:
        if side.run is None or side.round is None:
            continue
        values = [
            row["value"]
            for row in numbers.get(side.letter, ())
            if (row["set"], row["metric"]) == (set_, metric) and row["round"] <= side.round
        ]
        if values:
            found[side.run.config.seed] = values[-1]
    return found
