"""Methods: what each changes in the config of the loop. The shipped ones: configs/controls.yaml."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from omegaconf import OmegaConf

from selffilter.config import Config, flatten, leaves, nearest, read_yaml, shipped_config
from selffilter.errors import UserError

STARTS = ("bootstrap", "scratch")
LOOP = "loop"
"""The method whose bootstrap others share, and whose selection they may use."""

AFTER_BOOTSTRAP = (
    "select.keep_fraction",
    "select.diverse_fraction",
    "score.signal",
    "score.rescore",
    "score.bank_size",
    "score.batch_size",
    "score.given_scores",
    "rounds.final_selection",
)
"""Fields that leave the bootstrap round as it is, whatever their value."""

OF_THE_GRID = (
    "name",
    "runs_dir",
    "seed",
    "pool.shards",
    "pool.caption_key",
    "evaluate.truth",
)
"""Fields that an experiment fills in for each run: methods and overrides cannot."""

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True)
class Method:
    """One way to train, told as its difference from the loop.

    Attributes:
        name: Its name.
        about: One sentence.
        start: ``bootstrap`` (shares the loop's bootstrap round) or ``scratch``.
        changes: Field → value; text may hold placeholders.
        uses: Methods it is made from: it waits for their end, and counts their compute.
        part: Made for another method; no row of the tables.
    """

    name: str
    about: str
    start: str
    changes: Mapping[str, Any]
    uses: tuple[str, ...] = ()
    part: bool = False

    @property
    def placeholders(self) -> list[str]:
        """The names in braces, each once."""
        found = (n for v in self.changes.values() for n in _PLACEHOLDER.findall(str(v)))
        return list(dict.fromkeys(found))


class Facts(Protocol):
    """What placeholders stand for."""

    def __getitem__(self, name: str) -> Any:
        """Return a value by its name."""


@lru_cache(maxsize=1)
def read_controls() -> dict[str, Method]:
    """Return the shipped methods by name."""
    values = OmegaConf.to_container(read_yaml(shipped_config("controls")))
    assert isinstance(values, dict)
    return {str(name): read_method(str(name), method) for name, method in values.items()}


def read_method(name: str, values: object) -> Method:
    """Make a method of what stands in a file.

    Args:
        name: Its name.
        values: A mapping with ``changes`` and, if need be, ``about``, ``start``, ``uses``,
            ``part``; or a list of ``key=value``.

    Raises:
        UserError: Naming the method and the key.
    """
    if isinstance(values, list):
        values = {"changes": _from_words(name, values)}
    if not isinstance(values, dict):
        raise UserError(f"method {name!r}: give changes, or a list of key=value; not {values!r}.")
    known = ("about", "start", "changes", "uses", "part")
    for key in values:
        if key not in known:
            raise UserError(f"method {name!r}: there is no field {key!r}.{nearest(key, known)}")
    changes = values.get("changes") or {}
    if not isinstance(changes, dict):
        raise UserError(f"method {name!r}: changes is a mapping of fields, not {changes!r}.")
    flat = dict(leaves(changes))
    fields = flatten(Config())
    for key in flat:
        if key not in fields:
            raise UserError(f"method {name!r}: there is no field {key!r}.{nearest(key, fields)}")
    refuse_fields_of_the_grid(flat, f"method {name!r}")
    uses = values.get("uses") or []
    if not isinstance(uses, list):
        raise UserError(f"method {name!r}: uses is a list of methods, not {uses!r}.")
    start = values.get("start") or _start(flat)
    if start not in STARTS:
        raise UserError(f"method {name!r}: start={start!r} is not one of {', '.join(STARTS)}.")
    return Method(
        name=name,
        about=str(values.get("about") or ", ".join(words(flat, None))),
        start=start,
        changes=flat,
        uses=tuple(map(str, uses)),
        part=bool(values.get("part", False)),
    )


def refuse_fields_of_the_grid(keys: Iterable[str], where: str) -> None:
    """Refuse what would be overwritten, or would take a run out of the grid.

    Raises:
        UserError: Naming the field.
    """
    for key in keys:
        if key in OF_THE_GRID:
            raise UserError(
                f"{where}: {key} is set by the experiment for each run: see seeds, pools and out."
            )


def words(changes: Mapping[str, Any], facts: Facts | None) -> list[str]:
    """Return changes as ``key=value`` words, the placeholders filled in.

    Args:
        changes: Field → value.
        facts: What the placeholders stand for; None: they are left as they are.
    """
    return [f"{key}={_text(_fill(value, facts))}" for key, value in changes.items()]


def _fill(value: Any, facts: Facts | None) -> Any:
    if isinstance(value, list):
        return [_fill(one, facts) for one in value]
    if not isinstance(value, str) or facts is None:
        return value
    whole = _PLACEHOLDER.fullmatch(value)
    if whole:  # keeps the type of a number
        return facts[whole[1]]
    return _PLACEHOLDER.sub(lambda match: str(facts[match[1]]), value)


def _text(value: Any) -> str:
    # JSON is YAML: what OmegaConf reads back is what was meant.
    return json.dumps(value, default=str)


def _start(changes: Mapping[str, Any]) -> str:
    """Share the bootstrap where that gives the very run that starting from nothing would give."""
    return "bootstrap" if all(key in AFTER_BOOTSTRAP for key in changes) else "scratch"


def _from_words(name: str, given: list[Any]) -> dict[str, Any]:
    for word in given:
        if not isinstance(word, str) or "=" not in word:
            raise UserError(f"method {name!r}: {word!r} is not key=value.")
    parsed = OmegaConf.to_container(OmegaConf.from_dotlist(given))
    assert isinstance(parsed, dict)
    return {str(key): value for key, value in parsed.items()}
