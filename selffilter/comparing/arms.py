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
_BEFORE_A_SEED = re.compile(r"(^|[^a-z])(seed|s)[-_]?$", re.IGNORECASE)
"""Without it a number of a path is something else: that of a shard, a version, a share of noise."""


@dataclass(frozen=True)
class Arm:
    """Runs of one kind, or a subset file.

    Attributes:
        number: Its place among the arms, from 0.
        name: What its runs' names have in common.
        sides: Its runs, each with another seed, ascending by it; or the one file.
        by_seed: Fields whose values differ within the arm: paths with the seed in them.
        elsewhere: Fields of shards that are the same by their index, and lie elsewhere.
    """

    number: int
    name: str
    sides: tuple[Side, ...]
    by_seed: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()

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

    @property
    def rounds_differ(self) -> bool:
        """Whether what its runs keep is of different rounds: there is no mean over it."""
        return len({side.round for side in self.sides}) > 1


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
        Arm(number, name, tuple(members), *_changing(members))
        for number, (name, members) in enumerate(zip(names, groups, strict=True))
    ]


def arm_differences(arms: Sequence[Arm]) -> dict[str, list[Any]]:
    """Return the fields in which arms of runs differ, with the first run's value of each arm."""
    firsts = [arm.sides[0] for arm in arms if arm.is_runs]
    fields = sorted({key for side in firsts[1:] for key in _differing(firsts[0], side)})
    return {key: [_settings(side)[key] for side in firsts] for key in fields}


def same_start(fields: Iterable[str]) -> bool:
    """Whether runs of one seed share first weights and order, though these fields differ."""
    return not any(_is_under(key, ("model", "pool")) for key in fields)


def same_but_for_seed(text: str, seed: int, other: str, its_seed: int) -> bool:
    """Whether two paths differ in nothing, or in each having its run's seed at the same places.

    A number is a seed behind ``seed`` or ``s``, as in ``noise50-seed3``, ``s_03`` and ``Seed-3``.
    """
    parts = [_NUMBER.split(text), _NUMBER.split(other)]
    return _joined_of(parts, [seed, its_seed], _BEFORE_A_SEED) is not None


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


def _changing(members: Sequence[Side]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the paths that differ by the seed, and those that differ otherwise."""
    if members[0].run is None:
        return (), ()
    first, *others = ((side, flatten(side.run.config)) for side in members if side.run is not None)
    by_seed: list[str] = []
    elsewhere: list[str] = []
    for key in (_SHARDS, *_PATHS):
        texts = [(side, _texts(config.get(key))) for side, config in others]
        mine = _texts(first[1].get(key))
        if all(text == mine for _, text in texts):
            continue
        by_its_number = all(
            len(text) == len(mine)
            and all(_same_text(first[0], x, side, y) for x, y in zip(mine, text, strict=True))
            for side, text in texts
        )
        (by_seed if by_its_number else elsewhere).append(key)
    return tuple(by_seed), tuple(elsewhere)


def _texts(value: Any) -> list[str]:
    return list(map(str, value)) if isinstance(value, list | tuple) else [str(value)]


def _has_seed(members: Sequence[Side], side: Side) -> bool:
    return any(_seed(member) == _seed(side) for member in members)


def _seed(side: Side) -> int:
    return 0 if side.run is None else side.run.config.seed


# --- names ------------------------------------------------------------------------------------


def _joined_of(
    parts: Sequence[list[str]], seeds: Sequence[int], before: re.Pattern[str] | None = None
) -> str | None:
    """Return what texts have in common without each one's seed; None if they differ otherwise.

    Args:
        parts: Of each text, words and numbers by turns.
        seeds: Of each.
        before: What stands before a number that is a seed; None: anything.
    """
    if len({len(part) for part in parts}) != 1:
        return None
    found = []
    for place, tokens in enumerate(zip(*parts, strict=True)):
        if all(token == tokens[0] for token in tokens):
            found.append(tokens[0])
        elif (
            place % 2
            and (before is None or before.search(parts[0][place - 1]))
            and all(t.isdecimal() and int(t) == s for t, s in zip(tokens, seeds, strict=True))
        ):
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
