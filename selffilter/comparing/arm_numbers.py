"""Final numbers of arms over their seeds, and by how much arms differ, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from selffilter.comparing.arms import Arm
from selffilter.comparing.seeds import (
    FEWEST_RESAMPLED,
    Difference,
    Spread,
    Values,
    paired_difference,
    spread,
)
from selffilter.comparing.sides import Side
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
class Reached:
    """The last value of one run.

    Attributes:
        value: Of the number.
        round: In which it was measured.
        samples_seen: Until then; None: not known.
    """

    value: float
    round: int
    samples_seen: int | None


@dataclass(frozen=True)
class Measure:
    """One final number of all runs.

    Attributes:
        set: The evaluation set; None: it is of the last selection.
        metric: Which number.
        title: What it is, for a person.
        percent: Whether it is shown in percent.
        reached: Number of an arm → its seeds' values; arms without any are left out.
    """

    set: str | None
    metric: str
    title: str
    percent: bool
    reached: dict[int, dict[int, Reached]]

    @property
    def values(self) -> dict[int, Values]:
        """Number of an arm → seed → value."""
        return {
            number: {seed: one.value for seed, one in seeds.items()}
            for number, seeds in self.reached.items()
        }

    @property
    def uneven(self) -> frozenset[int]:
        """Arms whose seeds have not come equally far: no mean is taken over their values."""
        return frozenset(
            number
            for number, seeds in self.reached.items()
            if len({(one.round, one.samples_seen) for one in seeds.values()}) > 1
        )

    @property
    def spreads(self) -> dict[int, Spread]:
        """Mean and standard deviation over the seeds of each arm; both NaN where it is uneven."""
        uneven = self.uneven
        return {
            number: Spread(len(values), math.nan, math.nan) if number in uneven else spread(values)
            for number, values in self.values.items()
        }


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
        reached = {number: those for number, those in last.items() if those}
        if reached:
            found.append(Measure(set_, name, title, percent, reached))
    return found


def uneven_arms(measures: Sequence[Measure], arms: Sequence[Arm]) -> list[str]:
    """Say of which arms the seeds have not come equally far, and what that leaves out."""
    uneven = {number for measure in measures for number in measure.uneven}
    told = []
    for arm in arms:
        if arm.number in uneven or arm.rounds_differ:
            ends = ", ".join(_end(side) for side in arm.sides)
            least = min(side.round for side in arm.sides if side.round is not None)
            kept = ", and what they keep is of different rounds" if arm.rounds_differ else ""
            told.append(
                f"The seeds of {arm.name} have not come equally far ({ends}): no means, ± or "
                f"intervals over them{kept}. --round {least} compares them where all have been."
            )
    return told


def paired(measure: Measure, arms: Sequence[Arm]) -> list[Paired]:
    """Return the differences between arms on the seeds that both have.

    Of each two arms, the later minus the earlier; of more than `_MOST_ARMS_IN_PAIRS`, each minus
    the first alone. Uneven arms are left out.
    """
    known = measure.values.keys() - measure.uneven
    there = [arm.number for arm in arms if arm.number in known]
    pairs = list(combinations(there, 2))
    if len(there) > _MOST_ARMS_IN_PAIRS:
        pairs = [(there[0], other) for other in there[1:]]
    found = []
    for versus, of in pairs:
        difference = paired_difference(
            measure.values[of], measure.values[versus], RESAMPLES, FEWEST_RESAMPLED
        )
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
                {
                    "arm": number,
                    **asdict(found),
                    "by_seed": {seed: asdict(one) for seed, one in measure.reached[number].items()},
                }
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
    """Write a mean with its standard deviation, where there are such."""
    if found is None or math.isnan(found.mean):
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
) -> dict[int, Reached]:
    """Return the last value of each seed."""
    found = {}
    for side in arm.sides:
        if side.run is None:
            continue
        row = side.last_numbers(numbers.get(side.letter, ())).get((set_, metric))
        if row is not None:
            seen = row["samples_seen"]
            found[side.run.config.seed] = Reached(row["value"], row["round"], seen)
    return found


def _end(side: Side) -> str:
    """Say how far a run has come."""
    if side.trained is None:
        return f"{side.letter} nowhere"
    round_, seen = side.trained
    told = f"{side.letter} round {round_}"
    if round_ != side.round:
        told += f", selected in {side.round}"
    return told + ("" if seen is None else f" at {seen:,} samples")
