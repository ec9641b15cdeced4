"""Everything that is said about some runs and subsets beside each other, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from selffilter.comparing.agreement import Agreement, agreement
from selffilter.comparing.arm_numbers import (
    Measure,
    measure_record,
    measures_of,
    paired,
    uneven_arms,
)
from selffilter.comparing.arms import Arm, arm_differences, arms_of
from selffilter.comparing.favours import Favours, favours_of, favours_record
from selffilter.comparing.records import alarms_of, environment_differences
from selffilter.comparing.rounds import Alike, common_rounds, compare_round
from selffilter.comparing.seeds import has_t_intervals
from selffilter.comparing.sides import Side, shards_of
from selffilter.config import differences
from selffilter.pool import multiset
from selffilter.progress import Bar, NoBar
from selffilter.rundir.numbers import Row, round_numbers
from selffilter.store import read_object

ShowBar = Callable[[str, int], AbstractContextManager[Bar]]
_NAMES = ("name", "runs_dir")
"""Fields of the config that say where a run lies, not what it does."""


@dataclass(frozen=True)
class Pair:
    """Two runs.

    Attributes:
        a: The one.
        b: The other.
        rounds: `Alike.record` of each round in which both have selected.
        last: The last of these; None: there is none.
    """

    a: Side
    b: Side
    rounds: list[dict[str, Any]]
    last: Alike | None


@dataclass(frozen=True)
class Gathered:
    """What is said of the sides.

    Attributes:
        sides: In the order of the command.
        kept: How much of their (last) selections they have in common.
        chosen: The same of what was kept for its score.
        in_all: Uids that all of `kept` have.
        in_any: Uids that one of them has.
        pairs: Each two runs.
        numbers: Letter of each run → its evaluations and rounds: see `round_numbers`.
        config: Field in which runs differ → its value in each run, in their order.
        compute: Letter of each finished run → what its training has cost.
        arms: Runs that differ in their seed alone, together; each subset by itself.
        arm_config: Field in which arms of runs differ → its value in each of these, in their order.
        agreement: By how many sides what is kept, and how far arms agree with themselves.
        measures: Final numbers of the arms over their seeds.
        favours: How often groups are selected by each arm.
        alarms: Letter of each run → the guard's alarms.
        environment: What runs were made with that differs: name → its value in each run.
        notes: What could not be compared, and why.
    """

    sides: list[Side]
    kept: multiset.Comparison
    chosen: multiset.Comparison
    in_all: int
    in_any: int
    pairs: list[Pair]
    numbers: dict[str, list[Row]]
    config: dict[str, list[Any]]
    compute: dict[str, dict[str, Any]]
    arms: list[Arm]
    arm_config: dict[str, list[Any]]
    agreement: Agreement
    measures: list[Measure]
    favours: list[Favours]
    alarms: dict[str, list[dict[str, Any]]]
    environment: dict[str, list[Any]]
    notes: list[str] = field(default_factory=list)

    @property
    def runs(self) -> list[Side]:
        """The sides that are runs."""
        return [side for side in self.sides if side.run is not None]

    def record(self) -> dict[str, Any]:
        """Return all of it for ``compare.json``."""
        return {
            "sides": [
                {
                    "letter": side.letter,
                    "path": str(side.path),
                    "kind": "subset" if side.run is None else "run",
                    "round": side.round,
                    "trained": None if side.trained is None else side.trained[0],
                    "samples_seen": None if side.trained is None else side.trained[1],
                    "pool_version": None if side.run is None else side.run.pinned["version"],
                    "uids": len(side.kept),
                    "samples": side.kept.samples,
                    "chosen_uids": len(side.chosen),
                }
                for side in self.sides
            ],
            "kept": _matrices(self.kept) | {"in_all": self.in_all, "in_any": self.in_any},
            "chosen": _matrices(self.chosen),
            "pairs": [
                {"a": pair.a.letter, "b": pair.b.letter, "rounds": pair.rounds}
                for pair in self.pairs
            ],
            "numbers": self.numbers,
            "config": self.config,
            "compute": self.compute,
            "arms": [
                {
                    "arm": arm.number,
                    "name": arm.name,
                    "sides": [side.letter for side in arm.sides],
                    "seeds": list(arm.seeds),
                    "by_seed": list(arm.by_seed),
                    "elsewhere": list(arm.elsewhere),
                }
                for arm in self.arms
            ],
            "arm_config": self.arm_config,
            "agreement": self.agreement.record(),
            "measures": [measure_record(measure, self.arms) for measure in self.measures],
            "groups": [favours_record(found) for found in self.favours],
            "alarms": self.alarms,
            "environment": self.environment,
            "notes": self.notes,
        }


def gather(
    sides: Sequence[Side],
    bar: ShowBar = lambda title, total: nullcontext(NoBar()),
    metric: str | None = None,
) -> Gathered:
    """Compare sides.

    Args:
        sides: Two at least.
        bar: Shows progress over so many shards.
        metric: Of evaluation sets; None: see `measures_of`.

    Raises:
        UserError: If a run's tables are not whole.
    """
    notes: list[str] = []
    runs = [side for side in sides if side.run is not None]
    pairs = [_pair(a, b, bar, notes) for a, b in combinations(runs, 2)]
    kept = [side.kept for side in sides]
    chosen = multiset.compare([side.chosen for side in sides])
    arms = arms_of(sides)
    numbers = {side.letter: list(round_numbers(side.run.store)) for side in runs if side.run}
    spearman = {
        (pair.a.letter, pair.b.letter): pair.rounds[-1]["spearman"]
        for pair in pairs
        if pair.rounds and pair.rounds[-1]["spearman"] is not None
    }
    measures = measures_of(arms, numbers, metric)
    notes += uneven_arms(measures, arms)
    if not has_t_intervals() and _have_common_seeds(measures, arms):
        missing = "scipy is missing: pip install 'selffilter[experiments]'"
        notes.append(f"no intervals of differences: {missing}.")
    return Gathered(
        list(sides),
        multiset.compare(kept),
        chosen,
        len(multiset.intersect(kept)),
        len(multiset.union(kept)),
        pairs,
        numbers,
        config_differences(runs),
        {side.letter: found for side in runs if (found := _compute(side, notes)) is not None},
        arms,
        arm_differences(arms),
        agreement(arms, sides, chosen.jaccard_KK, spearman),
        measures,
        favours_of([arm for arm in arms if not arm.rounds_differ]),
        {side.letter: alarms_of(side) for side in runs},
        environment_differences(runs),
        notes,
    )


def config_differences(runs: Sequence[Side]) -> dict[str, list[Any]]:
    """Return the fields in which runs' configs differ, with the value in each run.

    Names and folders of the runs are left out.
    """
    configs = [side.run.config for side in runs if side.run is not None]
    found: dict[str, list[Any]] = {}
    for k, config in enumerate(configs):
        for key, (first, value) in differences(configs[0], config).items():
            if key not in _NAMES:
                found.setdefault(key, [first] * len(configs))[k] = value
    return dict(sorted(found.items()))


def _have_common_seeds(measures: Sequence[Measure], arms: Sequence[Arm]) -> bool:
    return any(x.difference.seeds > 1 for measure in measures for x in paired(measure, arms))


def _pair(a: Side, b: Side, bar: ShowBar, notes: list[str]) -> Pair:
    assert a.run is not None and b.run is not None
    rounds = common_rounds(a.run, b.run)
    same_pool = a.run.rows_version == b.run.rows_version
    if not rounds:
        notes.append(f"{a.label} and {b.label} have no round in which both have selected.")
    elif not same_pool:
        notes.append(
            f"{a.label} and {b.label} are of different pools, or versions of one: their rows are "
            "joined by uid."
        )
    records, last = [], None
    shards = sum(shards_of(a.run, r) + (not same_pool) * shards_of(b.run, r) for r in rounds)
    with bar(f"{a.letter} and {b.letter}", shards) as shown:
        for round_ in rounds:
            last = compare_round(a.run, b.run, round_, lambda: shown.advance(1))
            records.append(last.record())
    return Pair(a, b, records, last)


def _compute(side: Side, notes: list[str]) -> dict[str, Any] | None:
    assert side.run is not None
    path = side.run.store.final / "compute.json"
    if not path.exists():
        notes.append(f"{side.label} is not finished: what it has cost is not known.")
        return None
    found: dict[str, Any] = read_object(path)
    return found


def _matrices(found: multiset.Comparison) -> dict[str, Any]:
    return {
        "uids": found.uids_K.tolist(),
        "samples": found.samples_K.tolist(),
        "overlap": found.overlap_KK.tolist(),
        "jaccard": found.jaccard_KK.tolist(),
    }
