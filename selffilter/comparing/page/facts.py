"""The last sections: alarms, cost, and where configs and environments differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from selffilter.comparing.arms import Arm
from selffilter.comparing.gather import Gathered
from selffilter.comparing.page.named import about, arm_name, arm_of, cell, side_name
from selffilter.comparing.tables import COMPUTE, cost
from selffilter.config import Config
from selffilter.reporting.costs import changed_fields
from selffilter.reporting.markup import Child, Markup, element, joined
from selffilter.reporting.parts import fields, table

_MOST_ALARMS = 100


def alarms(found: Gathered) -> Markup | None:
    """What the guard of each run has said; None without runs."""
    if not found.runs:
        return None
    arms = arm_of(found.arms)
    silent = [side for side in found.runs if not found.alarms[side.letter]]
    told = "The guard has raised no alarm in any run."
    if silent and len(silent) < len(found.runs):
        told = f"No alarm in {', '.join(side.letter for side in silent)}."
    rows: list[list[Child]] = [
        [side_name(side, arms[side.letter]), f"{alarm['round']}", alarm["name"], alarm["sentence"]]
        for side in found.runs
        for alarm in found.alarms[side.letter]
    ]
    more = len(rows) - _MOST_ALARMS
    return joined(
        about(told) if silent else None,
        table(["", "round", "bound", ""], rows[:_MOST_ALARMS], "words") if rows else None,
        about(f"{more:,} more: compare.json has them all.") if more > 0 else None,
    )


def compute(found: Gathered) -> Markup | None:
    """What each run has cost; None if none is finished."""
    if not found.compute:
        return None
    arms = arm_of(found.arms)
    shown = [(k, name) for k, name in COMPUTE if any(k in c for c in found.compute.values())]
    rows: list[list[Child]] = [
        [side_name(side, arms[side.letter])]
        + [cost(key, found.compute[side.letter].get(key)) for key, _ in shown]
        for side in found.runs
        if side.letter in found.compute
    ]
    return joined(
        about(
            "Scoring passes used are those that training has gone by. Runs that branched off from",
            "another count its rounds as their own.",
        ),
        table(["", *(name for _, name in shown)], rows, "names"),
    )


def config(found: Gathered) -> Markup | None:
    """Where arms differ, what their seeds change besides, and what runs were made with."""
    arms = [arm for arm in found.arms if arm.is_runs]
    if not arms:
        return None
    return joined(
        _between_arms(found, arms),
        _by_seed(arms),
        element(
            "details",
            element("summary", "Other than by default, the same in all runs"),
            fields(_common(found)),
            class_="fold",
        ),
        element("h3", "Environments"),
        _environments(found),
    )


def _between_arms(found: Gathered, arms: Sequence[Arm]) -> Markup:
    if len(arms) < 2:
        return about("All runs have one config but for the seed.")
    if not found.arm_config:
        return about("The arms’ configs do not differ.")
    rows: list[list[Child]] = [
        [key, *(cell(value) for value in values)] for key, values in found.arm_config.items()
    ]
    return joined(
        element("h3", "Where the arms’ configs differ"),
        table(["", *(arm_name(arm) for arm in arms)], rows, "words"),
    )


def _by_seed(arms: Sequence[Arm]) -> Markup | None:
    by_seed = "; ".join(f"{arm.name}: {', '.join(arm.by_seed)}" for arm in arms if arm.by_seed)
    moved = "; ".join(f"{arm.name}: {', '.join(arm.elsewhere)}" for arm in arms if arm.elsewhere)
    if not by_seed and not moved:
        return None
    return about(
        f"Within an arm these paths change with the seed, by its number: {by_seed}."
        if by_seed
        else "",
        f"Within an arm these lie elsewhere, and are the same by their index: {moved}."
        if moved
        else "",
    )


def _common(found: Gathered) -> dict[str, Any]:
    changed = [changed_fields(_config(side)) for side in found.runs]
    return {
        key: value
        for key, value in changed[0].items()
        if all(key in other and other[key] == value for other in changed)
    }


def _config(side: Any) -> Config:
    config: Config = side.run.config
    return config


def _environments(found: Gathered) -> Markup:
    """Each name with its values, and which runs have them."""
    if not found.environment:
        return about("All runs were made with the same versions, on the same platform.")
    rows: list[list[Child]] = []
    for name, values in found.environment.items():
        letters: dict[str, list[str]] = {}
        for side, value in zip(found.runs, values, strict=True):
            letters.setdefault(cell(value), []).append(side.letter)
        rows += [[name, value, " ".join(those)] for value, those in letters.items()]
    return table(["", "", "runs"], rows, "words")
