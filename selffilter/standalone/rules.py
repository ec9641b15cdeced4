"""Rules that cut a scored pool down, one after the other. Pure: columns in, marks out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from selffilter.errors import UserError
from selffilter.selecting.mix import UidsOf, by_score

Kind = Literal["keep", "above", "top"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Of = Literal["indexed", "usable"]
"""What a fraction is of: all rows of the original pool, or those that are usable."""


@dataclass(frozen=True)
class Rule:
    """One cut.

    Attributes:
        kind: ``keep``: the best, so many that they are a fraction of the base; ``top``: the best
            so many; ``above``: those whose score is at least a value.
        signal: By which column.
        value: The fraction, the count, or the value.
    """

    kind: Kind
    signal: str
    value: float

    @classmethod
    def parse(cls, kind: Kind, text: str) -> Rule:
        """Read SIGNAL:VALUE.

        Raises:
            UserError: If it is none, or the value is out of range.
        """
        signal, colon, word = text.rpartition(":")
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        wants = {
            "keep": "a fraction above 0 and at most 1",
            "above": "a number",
            "top": "a whole number of at least 1",
        }[kind]
        good = {
            "keep": 0 < value <= 1,
            "above": math.isfinite(value),
            "top": value >= 1 and value.is_integer(),
        }[kind]
        if not (signal and colon and good):
            raise UserError(f"--{kind} {text} is not SIGNAL:VALUE with {wants}.")
        return cls(kind, signal, value)

    def __str__(self) -> str:
        number = f"{int(self.value):,}" if self.kind == "top" else f"{self.value:g}"
        return f"--{self.kind} {self.signal}:{number}"


@dataclass(frozen=True)
class Cut:
    """What a rule did.

    Attributes:
        rule: Which.
        before: Rows that were left before it.
        no_score: Rows among them without a score of that signal: they are out.
        cut: Rows that were cut.
        kept: Rows that are left.
        lowest: The lowest score that is kept; NaN if none is.
    """

    rule: Rule
    before: int
    no_score: int
    cut: int
    kept: int
    lowest: float


def apply_rules(
    columns: Mapping[str, NDArray[np.float32]],
    rows_N: NDArray[np.int64],
    usable_N: NDArray[np.bool_],
    rules: Sequence[Rule],
    uids_of: UidsOf,
    base: int,
) -> tuple[NDArray[np.bool_], list[Cut]]:
    """Apply rules in their order, each to what the ones before it have left.

    Args:
        columns: Of every signal that a rule names, (N,) float32; NaN: no score.
        rows_N: Row numbers, ascending.
        usable_N: Which rows may be kept.
        rules: In order.
        uids_of: Rows → (n, 2) uint64: ties go by (uid, row), the smaller one stays.
        base: What fractions are of, in rows: ``keep f`` leaves ``round(f·base)``.

    Returns:
        Which rows are left, (N,) bool, and what each rule did.

    Raises:
        UserError: If a rule is to keep more than is left.
    """
    left_N = usable_N.copy()
    cuts = []
    for rule in rules:
        before = int(left_N.sum())
        places = np.flatnonzero(left_N & np.isfinite(columns[rule.signal]))
        score = columns[rule.signal][places]
        if rule.kind == "above":
            stays = places[score >= rule.value]
        else:
            count = round(rule.value * base) if rule.kind == "keep" else int(rule.value)
            if count > len(places):
                asked = f"{rule.value:g} of {base:,} rows are {count:,}"
                raise UserError(
                    f"{rule}: {asked if rule.kind == 'keep' else f'{count:,} are asked for'}, but "
                    f"only {len(places):,} rows that have a {rule.signal} are left"
                    + (f" ({len(places) / base:.4f} of them)." if rule.kind == "keep" else ".")
                )
            order = by_score(rows_N[places], score, uids_of)[:count]
            stays = places[order]
        left_N = np.zeros(len(rows_N), bool)
        left_N[stays] = True
        lowest = float(columns[rule.signal][stays].min()) if len(stays) else math.nan
        cuts.append(
            Cut(rule, before, before - len(places), len(places) - len(stays), len(stays), lowest)
        )
    return left_N, cuts
