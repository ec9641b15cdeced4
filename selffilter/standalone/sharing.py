"""Who does which shard: parts of an array job, the ranks of each, and their progress."""

from __future__ import annotations

from collections.abc import Callable

from selffilter.interrupt import StopRequest
from selffilter.progress import Bar
from selffilter.team import Team


def deal(
    shards: int, part: tuple[int, int], team: Team, is_there: Callable[[int], bool]
) -> list[int]:
    """Return the shards that this rank has to do.

    Part i of n has every n-th shard, whatever was done before: parts need not know of each other.
    The ranks of one part share what is missing there.

    Args:
        shards: How many there are.
        part: (i, n), i counted from 1.
        team: The ranks.
        is_there: Whether a shard's file is there; rank 0 looks.
    """
    number, parts = part
    missing: list[int] = team.decide(
        lambda: [s for s in range(number - 1, shards, parts) if not is_there(s)]
    )
    return missing[team.rank :: team.size]


def counting(bar: Bar, stop: StopRequest) -> Callable[[int], None]:
    """Return what is called with how many more are done: shows them, and stops if asked to."""

    def progress(count: int) -> None:
        bar.advance(count)
        stop.check()

    return progress
