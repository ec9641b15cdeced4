"""A selection written as new shards: begun, gone on with after a stop, by several processes.

```
OUT/SSSSS.tar, SSSSS.parquet, SSSSS_stats.json    see `shards`
OUT/subset.npy            the uids written, each as often as its weight: for `pool.subset`
OUT/materialised.json     what was written, how, of what; written last: OUT is complete
OUT/.work/                until then
```

The order is shuffled, so every new shard holds rows of all parts of the source. Shards are written
in groups: the rows of a group are read in the order in which they stand in the source, and held
until they are written. How many groups there are, and how often the source is gone over, depends on
how much may be held; what is written does not.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selffilter.begun import WORK, begin_folder, finish_folder, look_at_folder, sweep_folder
from selffilter.errors import UserError
from selffilter.interrupt import StopRequest
from selffilter.pool.index import Pool
from selffilter.pool.materialise.fetch import sizes_of
from selffilter.pool.materialise.layout import Layout, group_shards, lay_out
from selffilter.pool.materialise.processes import WriterArguments, lay_down, write_groups
from selffilter.pool.materialise.report import gather, size_text, write_weights
from selffilter.pool.materialise.settings import ShardSettings
from selffilter.pool.materialise.shards import shard_name, stats_path
from selffilter.pool.row_reader import REQUEST_BYTES
from selffilter.progress import Bar, NoBar
from selffilter.store import Lease

REPORT = "materialised.json"
_ROWS_AT_A_TIME = 1 << 20


def materialise(
    pool: Pool,
    rows_N: NDArray[np.int64],
    weights_N: NDArray[np.int64],
    out: Path,
    settings: ShardSettings,
    *,
    workers: int = 1,
    memory_bytes: int = 4 << 30,
    request_bytes: int = REQUEST_BYTES,
    stop: StopRequest | None = None,
    say: Callable[[str], None] = lambda _: None,
    bar: Callable[[int, int], AbstractContextManager[Bar]] = lambda *_: nullcontext(NoBar()),
) -> dict[str, Any]:
    """Write rows of a pool as shards of their own, or go on with it, or find them complete.

    Args:
        pool: The source.
        rows_N: (N,) int64, each row once, in any order.
        weights_N: (N,) whole numbers of at least 1.
        out: The folder.
        settings: What the shards are to look like.
        workers: Processes that read and write.
        memory_bytes: Bytes of samples that all of them together may hold.
        request_bytes: See `row_reader.RowReader`.
        stop: Asks to stop, between two samples.
        say: Prints a sentence.
        bar: Shows progress over so many samples, of which so many are there already.

    Returns:
        What stands in ``materialised.json``.

    Raises:
        UserError: If `out` holds something else, or there is no room.
        StoreGone: If the source cannot be read; finished shards stay.
        Stopped: If asked to; finished shards stay.
    """
    settings.check()
    if not len(rows_N):
        raise UserError("nothing to materialise: the selection holds no usable row of the pool.")
    stop = stop or StopRequest()
    asked = asdict(settings) | {"pool": pool.version, "selection": _digest(rows_N, weights_N)}
    others = {
        "pool": "from another pool, or from one that has changed since",
        "selection": "from another selection",
    }
    if (done := look_at_folder(out, REPORT, asked, "materialised selection", others)) is not None:
        return done
    with Lease(out / WORK, say, stop.ask):
        sweep_folder(out)
        begin_folder(out, asked)
        layout = lay_out(
            rows_N,
            weights_N,
            samples_per_shard=settings.samples_per_shard,
            seed=settings.seed,
            repeat=settings.repeat,
        )
        _write_shards(
            pool, layout, out, settings, workers, memory_bytes, request_bytes, stop, say, bar
        )
        report = gather(out, layout, asked, pool)
        if not settings.repeat:
            write_weights(out, layout)
    finish_folder(out, REPORT, report)
    return report


def _write_shards(
    pool: Pool,
    layout: Layout,
    out: Path,
    settings: ShardSettings,
    workers: int,
    memory_bytes: int,
    request_bytes: int,
    stop: StopRequest,
    say: Callable[[str], None],
    bar: Callable[[int, int], AbstractContextManager[Bar]],
) -> None:
    names = [shard_name(shard, layout.shards) for shard in range(layout.shards)]
    is_there = np.array([stats_path(out, name).exists() for name in names])
    todo = np.flatnonzero(~is_there)
    if not len(todo):
        return
    bytes_S = _bytes_of_shards(pool, layout, settings)
    if not settings.decodes:
        _check_room(out, int(bytes_S[todo].sum()))
    workers = max(1, min(workers, len(todo)))
    budget = max(1, memory_bytes // workers)
    groups = group_shards(todo, bytes_S, budget, workers)
    say(
        f"{int(layout.first_S[-1]):,} samples; shards: {layout.shards:,}, sweeps over the source: "
        f"{len(groups):,}, processes: {workers}"
    )
    counts = np.diff(layout.first_S)
    folder = lay_down(layout, out / WORK / "layout")
    arguments = WriterArguments(pool, folder, out, settings, request_bytes, budget)
    with bar(int(counts.sum()), int(counts[is_there].sum())) as shown:
        write_groups(groups, workers, arguments, stop, shown)


def _bytes_of_shards(pool: Pool, layout: Layout, settings: ShardSettings) -> NDArray[np.int64]:
    """Return what the samples of each shard take in the source, (S,) int64."""
    parts = [np.empty(0, np.int64)]
    for begin in range(0, len(layout.rows_E), _ROWS_AT_A_TIME):
        sizes = sizes_of(pool, layout.rows_E[begin : begin + _ROWS_AT_A_TIME])
        parts.append(sizes.to_read(settings.max_image_bytes))
    ends = np.concatenate([[0], np.cumsum(np.concatenate(parts))])
    return np.diff(ends[layout.first_S])


def _check_room(out: Path, needed: int) -> None:
    free = shutil.disk_usage(out).free
    if needed > free:
        raise UserError(
            f"{out}: the shards will take {size_text(needed)}, and there is room for "
            f"{size_text(free)}. Make room, choose another place, or --resize."
        )


def _digest(rows_N: NDArray[np.int64], weights_N: NDArray[np.int64]) -> str:
    order = np.argsort(rows_N, kind="stable")
    digest = hashlib.sha256(np.ascontiguousarray(rows_N[order], dtype="<i8").tobytes())
    digest.update(np.ascontiguousarray(weights_N[order], dtype="<i8").tobytes())
    return digest.hexdigest()[:16]
