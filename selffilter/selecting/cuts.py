"""Staged cuts: each leaves so many of the original pool, one after the other.

As in the published recipes, a fraction is of the original pool and not of what an earlier cut left:
``keep cosine:0.45`` and then ``keep variance_alignment:0.30`` leave 30 % of the pool.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from selffilter.errors import UserError
from selffilter.selecting.order import UidsOf, by_uid, descending_keys, take
from selffilter.selecting.scratch import Scratch

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
    def parse(cls, kind: Kind, text: str, field: str = "") -> Rule:
        """Read SIGNAL:VALUE.

        Args:
            kind: What the value is.
            text: The words.
            field: Where they stand, for messages; the command line's option if empty.

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
            where = field or f"--{kind} {text}"
            raise UserError(f"{where} is not SIGNAL:VALUE with {wants}.")
        return cls(kind, signal, value)

    @classmethod
    def of_words(cls, words: str, field: str) -> Rule:
        """Read ``keep SIGNAL:FRACTION``, ``above SIGNAL:SCORE`` or ``top SIGNAL:ROWS``.

        Raises:
            UserError: Naming the field of the config that holds the words.
        """
        kind, _, rest = words.strip().partition(" ")
        if kind not in KINDS:
            raise UserError(
                f"{field}: {words!r} is none of 'keep SIGNAL:FRACTION', 'above SIGNAL:SCORE' and "
                "'top SIGNAL:ROWS'."
            )
        return cls.parse(kind, rest.strip(), f"{field}: {words!r}")

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

    def record(self) -> dict[str, str | int | float | None]:
        """Return it as plain values."""
        return {
            "rule": self.rule.kind,
            "signal": self.rule.signal,
            "value": self.rule.value,
            "kept": self.kept,
            "cut": self.cut,
            "without_score": self.no_score,
            "lowest_kept": None if math.isnan(self.lowest) else self.lowest,
        }


def apply_rules(
    columns: Mapping[str, NDArray[np.float32]],
    usable_N: NDArray[np.bool_],
    rules: Sequence[Rule],
    uids_of: UidsOf,
    base: int,
    scratch: Scratch | None = None,
) -> tuple[NDArray[np.bool_], list[Cut]]:
    """Apply rules in their order, each to what the ones before it have left.

    Args:
        columns: Of every signal that a rule names, (N,) float32; NaN: no score.
        usable_N: Which rows may be kept.
        rules: In order.
        uids_of: Places → (n, 2) uint64: ties go by (uid, place), the smaller one stays.
        base: What fractions are of, in rows: ``keep f`` leaves ``round(f·base)``.
        scratch: Where arrays of a row each come from.

    Returns:
        Which rows are left, (N,) bool, and what each rule did.

    Raises:
        UserError: If a rule is to keep more than is left.
    """
    scratch = scratch or Scratch()
    left_N = usable_N
    cuts = []
    for rule in rules:
        score_N = columns[rule.signal]
        before = int(left_N.sum())
        scored_N = left_N & np.isfinite(score_N)
        scored = int(scored_N.sum())
        if rule.kind == "above":
            left_N = scored_N & (score_N >= np.float32(rule.value))
        else:
            count = round(rule.value * base) if rule.kind == "keep" else int(rule.value)
            if count > scored:
                raise UserError(_too_few(rule, count, scored, base))

            def keys(part: slice, score_N: NDArray[np.float32] = score_N) -> NDArray[np.uint32]:
                return descending_keys(score_N[part])

            left_N = take(keys, scored_N, count, by_uid(uids_of), scratch=scratch)
        kept = int(left_N.sum())
        lowest = float(score_N[left_N].min()) if kept else math.nan
        cuts.append(Cut(rule, before, before - scored, scored - kept, kept, lowest))
    return left_N.copy() if left_N is usable_N else left_N, cuts


def _too_few(rule: Rule, count: int, scored: int, base: int) -> str:
    asked = f"{rule.value:g} of {base:,} rows are {count:,}"
    return (
        f"{rule}: {asked if rule.kind == 'keep' else f'{count:,} are asked for'}, but "
        f"only {scored:,} rows that have a {rule.signal} are left"
        + (f" ({scored / base:.4f} of them)." if rule.kind == "keep" else ".")
    )
