"""What a person reads: one block a sample. A pool's texts are untrusted and made harmless here."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from selffilter.asking.explain import explain
from selffilter.asking.standing import Standing
from selffilter.plain_text import clipped, harmless

_MOST_TWINS = 5


@dataclass(frozen=True)
class Sample:
    """Where a sample stands.

    Attributes:
        uid: 32 hex digits.
        row: Its number in the pool's index.
        source: Name of its source.
        shard: Path of its tar below the source.
        key: Its key in the tar.
        captions: Those of it that can be read.
        no_caption: Why there are none; "": there are some.
        same_uid: Other rows with the same uid.
    """

    uid: str
    row: int
    source: str
    shard: str
    key: str
    captions: Sequence[str] = ()
    no_caption: str = ""
    same_uid: Sequence[int] = ()


def block(
    sample: Sample, standings: Sequence[Standing], to_come: str = "", width: int = 100
) -> str:
    """Tell all of a sample.

    Args:
        sample: Where it stands.
        standings: One a round that has begun.
        to_come: What of the run is not finished; "": it is.
        width: Of a line, in characters.
    """
    caption = f"“{clipped(' | '.join(sample.captions))}”" if sample.captions else sample.no_caption
    lines = [f"{sample.uid}  row {sample.row:,}"]
    lines += _hanging("where", f"{sample.source}/{sample.shard}, key {sample.key}", width)
    lines += _hanging("caption", caption, width)
    if sample.same_uid:
        shown = ", ".join(f"{row:,}" for row in sample.same_uid[:_MOST_TWINS])
        more = len(sample.same_uid) - _MOST_TWINS
        lines += _hanging("same uid", f"row {shown}" + (f" and {more:,} more" * (more > 0)), width)
    for standing in standings:
        lines += _hanging(f"round {standing.round}", explain(standing), width)
    if to_come:
        lines += _hanging("to come", to_come, width)
    return "\n".join(lines)


def record(sample: Sample, standings: Sequence[Standing], to_come: str = "") -> dict[str, Any]:
    """Return the same as plain values."""
    rounds = [standing.record() | {"why": explain(standing)} for standing in standings]
    about = vars(sample) | {"captions": list(sample.captions), "same_uid": list(sample.same_uid)}
    return about | {"rounds": rounds, "to_come": to_come or None}


def _hanging(title: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        harmless(text),
        width,
        initial_indent=f"  {title:<9} ",
        subsequent_indent=" " * 12,
        break_on_hyphens=False,
    )
