"""Numbers that change from round to round, written as a schedule.

``linear(0.2, 0.4)`` and ``cosine(0.2, 0.4)`` go from the first number in round 0 to the second in
the last round; a config holds the numbers that come of it, one a round.
"""

from __future__ import annotations

import math
import re

from selffilter.errors import UserError

_SCHEDULE = re.compile(r"\s*(\w+)\s*\(\s*([^,()]+?)\s*,\s*([^,()]+?)\s*\)\s*")
KINDS = ("linear", "cosine")


def is_schedule(value: object) -> bool:
    """Whether a value of a config is a schedule, well-formed or not."""
    return isinstance(value, str) and "(" in value


def paced(key: str, schedule: str, rounds: int) -> list[float]:
    """Return the numbers of a schedule, one a round.

    Args:
        key: The field, for messages.
        schedule: Like ``linear(0.2, 0.4)``.
        rounds: How many.

    Raises:
        UserError: If it is no schedule.
    """
    match = _SCHEDULE.fullmatch(schedule)
    kind, words = (match[1], match.group(2, 3)) if match else ("", ())
    try:
        first, last = (float(word) for word in words)
    except ValueError:
        kind = ""
    if kind not in KINDS:
        raise UserError(
            f"{key}={schedule!r} is no schedule, as linear(0.2, 0.4) or cosine(0.2, 0.4) are."
        )
    numbers = []
    for round_ in range(rounds):
        done = round_ / max(1, rounds - 1)
        if kind == "cosine":
            done = (1 - math.cos(math.pi * done)) / 2
        numbers.append(round(first + (last - first) * done, 6))
    return numbers
