"""New shards, written one after the other from what one sweep over the source has brought.

A shard is SSSSS.tar, SSSSS.parquet (a row a sample, those that failed too) and SSSSS_stats.json,
which is written last: it is there = the shard is complete. As img2dataset leaves them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from selffilter.pool import uids
from selffilter.pool.captions import CaptionKey
from selffilter.pool.failures import UnusableSample
from selffilter.pool.index import Pool
from selffilter.pool.materialise.fetch import Source, fetch
from selffilter.pool.materialise.layout import Layout, order_in_shard
from selffilter.pool.materialise.samples import make_sample
from selffilter.pool.materialise.settings import ShardSettings
from selffilter.pool.row_reader import RowReader
from selffilter.pool.writing import write_tar
from selffilter.store import write_json
from selffilter.tables import write_table

TABLE = pa.schema(
    [
        ("uid", pa.string()),
        ("key", pa.string()),
        ("caption", pa.string()),
        ("status", pa.string()),  # success or failed
        ("error_message", pa.string()),  # the reason, a name of Failure
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("original_width", pa.int32()),
        ("original_height", pa.int32()),
        ("weight", pa.int32()),  # how many times a pass meets the sample
        ("copy", pa.int32()),  # of the row, from 0
        ("source", pa.string()),
        ("source_shard", pa.string()),
        ("source_key", pa.string()),
    ]
)


class ShardWriter:
    """Writes the shards of a layout.

    Args:
        pool: The source.
        layout: What stands where.
        out: The folder.
        settings: What the shards are to look like.
        request_bytes: See `row_reader.RowReader`.
        budget: Bytes of the source that may be held.
    """

    def __init__(
        self,
        pool: Pool,
        layout: Layout,
        out: Path,
        settings: ShardSettings,
        *,
        request_bytes: int,
        budget: int,
    ) -> None:
        self._pool, self._layout, self._out, self._settings = pool, layout, out, settings
        self._reader = RowReader(pool, request_bytes)
        self._budget = budget
        self._caption_key = CaptionKey.parse(pool.caption_key)

    def write(
        self,
        group: list[int],
        should_go_on: Callable[[], None] = lambda: None,
        on_sample: Callable[[], None] = lambda: None,
    ) -> None:
        """Write some shards whose rows are read for together.

        Args:
            group: Numbers of the shards.
            should_go_on: Called between two samples; may raise. What is finished stays.
            on_sample: Called after each sample.

        Raises:
            StoreGone: If the source cannot be read.
        """
        first = self._layout.first_S
        places = np.concatenate([first[s] + self._order(s) for s in group])
        sources = fetch(
            self._pool,
            self._reader,
            self._layout.rows_E[places],
            max_image_bytes=self._settings.max_image_bytes,
            budget=self._budget,
            should_go_on=should_go_on,
        )
        for shard in group:
            count = int(first[shard + 1] - first[shard])
            self._write_shard(shard, islice(sources, count), should_go_on, on_sample)

    def _order(self, shard: int) -> Any:
        first, end = self._layout.first_S[shard : shard + 2]
        return order_in_shard(self._layout.rows_E[first:end], shard, self._settings.seed)

    def _write_shard(
        self,
        shard: int,
        sources: Iterator[Source],
        should_go_on: Callable[[], None],
        on_sample: Callable[[], None],
    ) -> None:
        name = shard_name(shard, self._layout.shards)
        lines = self._lines(shard, name)
        reasons: Counter[str] = Counter()
        json_lost = 0

        def samples() -> Iterator[tuple[str, dict[str, bytes]]]:
            nonlocal json_lost
            for line, source in zip(lines, sources, strict=True):
                should_go_on()
                stated = {"uid": line["uid"], "key": line["key"], "weight": line["weight"]}
                try:
                    sample = make_sample(source, stated, self._caption_key, self._settings)
                except UnusableSample as verdict:
                    reasons[verdict.failure.name] += 1
                    line |= {"status": "failed", "error_message": verdict.failure.name}
                else:
                    json_lost += sample.json_lost
                    _, _, *sides = sample.picture
                    line |= dict(zip(_SIDES, sides, strict=True))
                    line |= {"status": "success", "caption": sample.caption}
                    yield line["key"], sample.members
                on_sample()

        tar = self._out / f"{name}.tar"
        write_tar(tar, samples())
        write_table(self._out / f"{name}.parquet", pa.Table.from_pylist(lines, schema=TABLE))
        stats = {
            "count": len(lines),
            "successes": len(lines) - sum(reasons.values()),
            "failures": dict(sorted(reasons.items())),
            "json_lost": json_lost,
            "bytes": tar.stat().st_size,
        }
        write_json(stats_path(self._out, name), stats)

    def _lines(self, shard: int, name: str) -> list[dict[str, Any]]:
        """Return what is known of a shard's samples before they are read."""
        places = self._layout.first_S[shard] + self._order(shard)
        rows, times = self._layout.rows_E[places], self._layout.times_E[places]
        most = int(np.diff(self._layout.first_S).max())
        width = len(str(max(most - 1, 0)))
        shard_n = self._pool.shard_of(rows)
        local_n = rows - self._pool.first_row[shard_n]
        texts = uids.to_hex(self._pool.uids_of(rows))
        repeat = self._settings.repeat
        lines: list[dict[str, Any]] = []
        for i, (of, local) in enumerate(zip(shard_n.tolist(), local_n.tolist(), strict=True)):
            source, _, relative = self._pool.shard_name(of).partition("/")
            lines.append(
                {
                    "uid": texts[i],
                    "key": f"{name}{i:0{width}d}",
                    "weight": 1 if repeat else int(times[i]),
                    "copy": int(times[i]) if repeat else 0,
                    "source": source,
                    "source_shard": relative,
                    "source_key": self._pool.shard_table(of)["key"][local].as_py(),
                }
            )
        return lines


_SIDES = ("width", "height", "original_width", "original_height")


def shard_name(shard: int, shards: int) -> str:
    """Return the stem of a shard's files: its number with at least five digits."""
    return f"{shard:0{max(5, len(str(shards - 1)))}d}"


def stats_path(out: Path, name: str) -> Path:
    """Return the file that says that a shard is complete."""
    return out / f"{name}_stats.json"
