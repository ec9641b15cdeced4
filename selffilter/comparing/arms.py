"""Runs that differ in their seed alone, taken together: what a person calls a method.

Which they are follows from the resolved configs: all fields that decide what a run is, except seed
and name. A path may have the seed in it, as an experiment's pools have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from selffilter.comparing.sides import Side
from selffilter.config import MAY_CHANGE_ON_RESUME, flatten
from selffilter.plain_text import clipped

_NAME_CHARS = 40
_SHARDS = "pool.shards"
_PATHS = ("pool.subset", "model.name", "model.pretrained", "score.target", "score.reference",
          "score.given_scores")  # fmt: skip
"""Fields that name a file, or may."""
_DECIDE_AFTER_ALL = ("guard", "hardware.precision")
"""Of what a run may go on with, what its numbers depend on all the same."""
_NUMBER = re.compile(r"(\d+(?:\.\d+)*)")
"""Versions and decimals are one number: none of their parts is a seed."""


@dataclass(frozen=True)
class Arm:
    """Runs of one kind, or a subset file.

    Attributes:
        number: Its place among the arms, from 0.
        name: What its runs' names have in common.
        sides: Its runs, each with another seed, ascending by it; or the one file.
        by_seed: Fields whose values differ within the arm: paths with the seed in them.
    """

    number: int
    name: str
    sides: tuple[Side, ...]
    by_seed: tuple[str, ...] = ()

    @property
    def is_runs(self) -> bool:
        """Whether it is of runs; else it is a subset."""
        return self.sides[0].run is not None

    @property
    def letters(self) -> str:
        """The letters of its sides."""
        return " ".join(side.letter for side in self.sides)

    @property
    def seeds(self) -> dict[int, str]:
        """Seed → letter of the run, ascending."""
        return {side.run.config.seed: side.letter for side in self.sides if side.run is not None}


def arms_of(sides: Sequence[Side]) -> list[Arm]:
    """Take the runs that differ in nothing but their seed together.

    Of runs with one seed too, the second is an arm of its own: it is no further seed.

    Args:
        sides: Runs and subsets.

    Returns:
        Arms in the order of their first sides.
    """
    groups: list[list[Side]] = []
    for side in sides:
        for members in groups:
            if not _has_seed(members, side) and not _differing(members[0], side):
                members.append(side)
                break
        else:
            groups.append([side])
    groups = [sorted(members, key=_seed) for members in groups]
    names = _unlike([_name(members) for members in groups], groups)
    return [
        Arm(number, name, tuple(members), _by_seed(members))
        for number, (name, members) in enumerate(zip(names, groups, strict=True))
    ]


def arm_differences(arms: Sequence[Arm]) -> dict[str, list[Any]]:
    """Return the fields in which arms of runs differ, with the first run's value of each arm."""
    firsts = [arm.sides[0] for arm in arms if arm.is_runs]
    fields = sorted({key for side in firsts[1:] for key in _differing(firsts[0], side)})
    return {key: [_settings(side)[key] for side in firsts] for key in fields}


def same_but_for_seed(text: str, seed: int, other: str, its_seed: int) -> bool:
    """Whether two paths differ in nothing, or in each having its run's seed at the same places."""
    return _joined_of([_NUMBER.split(text), _NUMBER.split(other)], [seed, its_seed]) is not None


# --- what kind a run is of --------------------------------------------------------------------


def _differing(one: Side, other: Side) -> list[str]:
    """Return the fields that say that two sides are not of one kind; subsets never are."""
    if one.run is None or other.run is None:
        return [""]
    a, b = _settings(one), _settings(other)
    return [key for key in a if not _same(key, one, a[key], other, b[key])]


def _settings(side: Side) -> dict[str, Any]:
    assert side.run is not None
    return {key: value for key, value in flatten(side.run.config).items() if _decides(key)}


def _decides(key: str) -> bool:
    if key in ("seed", "name"):
        return False
    if key == _SHARDS or _is_under(key, _DECIDE_AFTER_ALL):
        return True
    return not _is_under(key, MAY_CHANGE_ON_RESUME)


def _is_under(key: str, some: Iterable[str]) -> bool:
    return any(key == name or key.startswith(name + ".") for name in some)


def _same(key: str, one: Side, a: Any, other: Side, b: Any) -> bool:
    assert one.run is not None and other.run is not None
    if a == b and key != _SHARDS:
        return True
    if key == _SHARDS:
        if one.run.rows_version == other.run.rows_version:
            return True
        # Shards that are called the same and are not may only be those of a seed.
        differ = a != b and len(a) == len(b)
        return differ and all(_same_text(one, x, other, y) for x, y in zip(a, b, strict=True))
    if key in _PATHS and isinstance(a, str) and isinstance(b, str):
        return _same_text(one, a, other, b)
    return False


def _same_text(one: Side, a: str, other: Side, b: str) -> bool:
    return same_but_for_seed(a, _seed(one), b, _seed(other))


def _by_seed(members: Sequence[Side]) -> tuple[str, ...]:
    configs = [flatten(side.run.config) for side in members if side.run is not None]
    fields = [key for key in (_SHARDS, *_PATHS) if configs and key in configs[0]]
    return tuple(key for key in fields if any(c[key] != configs[0][key] for c in configs))


def _has_seed(members: Sequence[Side], side: Side) -> bool:
    return any(_seed(member) == _seed(side) for member in members)


def _seed(side: Side) -> int:
    return 0 if side.run is None else side.run.config.seed


# --- names ------------------------------------------------------------------------------------


def _joined_of(parts: Sequence[list[str]], seeds: Sequence[int]) -> str | None:
    """Return what texts have in common without each one's seed; None if they differ otherwise."""
    if len({len(part) for part in parts}) != 1:
        return None
    found = []
    for place, tokens in enumerate(zip(*parts, strict=True)):
        if all(token == tokens[0] for token in tokens):
            found.append(tokens[0])
        elif place % 2 and all(t == str(seed) for t, seed in zip(tokens, seeds, strict=True)):
            continue
        else:
            return None
    return "".join(found)


def _name(members: Sequence[Side]) -> str:
    """Return what the members' names have in common, or the first one's."""
    parts = [_NUMBER.split(side.name) for side in members]
    common = _joined_of(parts, [_seed(side) for side in members]) or ""
    if len(members) > 1:
        common = re.sub(r"[-_. =]*(seed|(?<=[-_. ])s)?[-_. =]*$", "", common)
    return clipped(common or members[0].name, _NAME_CHARS)


def _unlike(names: list[str], groups: list[list[Side]]) -> list[str]:
    return [
        name if names.count(name) == 1 else f"{name} ({' '.join(side.letter for side in members)})"
        for name, members in zip(names, groups, strict=True)
    ]
