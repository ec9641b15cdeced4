"""`selffilter why`: from what a person names to what became of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np

from selffilter.asking.finding import find
from selffilter.asking.reading import Asked
from selffilter.asking.text import Sample, block, record
from selffilter.errors import StoreGone, UserError
from selffilter.pool import uids
from selffilter.pool.failures import UnusableSample
from selffilter.pool.index import Pool
from selffilter.pool.lookup import captions_of, key_of
from selffilter.pool.stores.pipe import PIPE
from selffilter.progress import Bar, NoBar
from selffilter.rundir.on_disk import RunOnDisk
from selffilter.tracking.console import Screen

_MANY_SHARDS = 64
"""Fewer are looked through before anybody could read how far it is."""
_MOST_WIDTH = 100


def run_why(
    run_dir: Path,
    uids_asked: Sequence[str],
    rows_asked: Sequence[int],
    keys_asked: Sequence[str],
    *,
    as_json: bool,
    screen: Screen,
) -> None:
    """Print what became of some samples of a run.

    Args:
        run_dir: The run.
        uids_asked: 32 hex digits each.
        rows_asked: Numbers in the pool's index.
        keys_asked: See `lookup.rows_of_key`.
        as_json: Print a list of records instead of blocks.
        screen: Where progress is shown.

    Raises:
        UserError: If there is no such run or, after the others are printed, no such sample.
    """

    def bar(title: str, total: int) -> AbstractContextManager[Bar]:
        return screen.bar(title, total) if total >= _MANY_SHARDS else nullcontext(NoBar())

    run = RunOnDisk.open(run_dir)
    found = find(run.pool, uids_asked, rows_asked, keys_asked, bar)
    to_come = _to_come(run)
    told = []
    if found.rows:
        rounds = list(Asked(run, np.array(list(found.rows), dtype=np.int64), bar).standings())
        for k, (row, same_uid) in enumerate(found.rows.items()):
            sample = _sample(run.pool, row, same_uid)
            told.append((sample, [standings[k] for standings in rounds]))
    if as_json:
        # ASCII alone: no character of a caption reaches a terminal as it is.
        print(json.dumps([record(*about, to_come) for about in told], indent=2))
    elif told:
        width = min(_MOST_WIDTH, shutil.get_terminal_size().columns)
        print("\n\n".join(block(*about, to_come, width) for about in told))
    if found.unknown:
        raise UserError(" ".join(found.unknown))


def _sample(pool: Pool, row: int, same_uid: Sequence[int]) -> Sample:
    shard, key = key_of(pool, row)
    path = pool.shard_path(shard)
    captions, no_caption = _captions(pool, shard, row)
    uid = uids.to_hex(pool.uids_of(np.array([row], dtype=np.int64)))[0]
    return Sample(uid, row, path.source, path.relative, key, captions, no_caption, same_uid)


def _captions(pool: Pool, shard: int, row: int) -> tuple[list[str], str]:
    """Return a row's captions, or why there are none to be shown."""
    if pool.location(shard).startswith(PIPE):
        return [], "(not read: its shard is what a command writes)"
    for _, change in pool.changed_shards(shards=[shard]):
        said = {"gone": "is gone", "changed": "has changed since it was indexed"}
        return [], f"(not read: its shard {said.get(change, f'does not answer: {change}')})"
    try:
        return captions_of(pool, row), ""
    except UnusableSample as verdict:
        return [], f"(none: {verdict.failure.name})"
    except StoreGone as error:
        return [], f"(cannot be read now: {error})"


def _to_come(run: RunOnDisk) -> str:
    """Say what of the run is not finished."""
    coming = run.next_stage()
    if coming is None:
        return ""
    round_, stage = coming
    left = run.config.rounds.count - round_ - 1
    rounds = f", and {left} more round{'s' * (left > 1)}" if left else ""
    return f"the run is not finished: {stage} of round {round_}{rounds}."
