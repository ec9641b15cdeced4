"""What was written: gathered from the shards, and told."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from selffilter import environment
from selffilter.pool import uids
from selffilter.pool.index import Pool
from selffilter.pool.materialise.layout import Layout
from selffilter.pool.materialise.shards import shard_name, stats_path
from selffilter.pool.subset import write_subset
from selffilter.store import read_json
from selffilter.tables import read_table


def gather(out: Path, layout: Layout, asked: Mapping[str, Any], pool: Pool) -> dict[str, Any]:
    """Sum up what the shards say of themselves.

    Args:
        out: The folder.
        layout: What stands where.
        asked: What decides the folder's content.
        pool: The source.
    """
    failures: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    for shard in range(layout.shards):
        stats = read_json(stats_path(out, shard_name(shard, layout.shards)))
        failures.update(stats["failures"])
        totals.update({name: stats[name] for name in ("count", "successes", "json_lost", "bytes")})
    return {
        "samples": totals["successes"],
        "shards": layout.shards,
        "bytes": totals["bytes"],
        "left_out": dict(sorted(failures.items())),
        "json_lost": totals["json_lost"],
        "heaviest": int(layout.times_E.max()) + int(asked["repeat"]),
        "caption_key": pool.caption_key,
        "settings": dict(asked),
        "made_with": environment.describe(asked["seed"]),
    }


def write_weights(out: Path, layout: Layout) -> None:
    """Write DataComp's subset file of what was written: a uid as often as the row's weight."""
    uid_parts, weight_parts = [np.empty((0, 2), np.uint64)], [np.empty(0, np.int64)]
    for shard in range(layout.shards):
        path = out / f"{shard_name(shard, layout.shards)}.parquet"
        table = read_table(path, ["uid", "weight", "status"]).to_pydict()
        good = [i for i, status in enumerate(table["status"]) if status == "success"]
        uid_parts.append(uids.from_hex([table["uid"][i] for i in good]).reshape(-1, 2))
        weight_parts.append(np.array([table["weight"][i] for i in good], dtype=np.int64))
    write_subset(out / "subset.npy", np.concatenate(uid_parts), np.concatenate(weight_parts))


def size_text(count: float) -> str:
    """Return a number of bytes for people."""
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def describe(report: Mapping[str, Any], out: Path) -> str:
    """Return what was written, and what to do with it, as text.

    Args:
        report: What `materialise` returned.
        out: Where it wrote.
    """
    left_out = report["left_out"]
    lines = [
        f"{out}: {report['samples']:,} samples in {report['shards']:,} "
        f"shard{'s' * (report['shards'] != 1)}, {size_text(report['bytes'])}"
    ]
    if left_out:
        listed = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
        lines.append(f"left out: {listed}")
    if report["json_lost"]:
        lines.append(f"{report['json_lost']:,} json members could not be read: uid and key alone")
    if report["settings"]["repeat"] and report["heaviest"] > 1:
        lines.append(
            "Copies share a uid. That is for other tools: selffilter meets each uid once, and "
            "takes weights from subset.npy, which is written without --repeat."
        )
        return "\n".join(lines)
    words = [f"pool.shards='[{out}]'"]
    if report["caption_key"] != "txt":
        words.append(f"pool.caption_key={json.dumps(report['caption_key'])}")
    if report["heaviest"] > 1:
        words.append(f"pool.subset={out / 'subset.npy'}")
    lines.append(f"\nTrain on all of it:\n  selffilter run CONFIG {' '.join(words)} \\")
    lines.append("      select.keep_fraction=0 select.diverse_fraction=1")
    return "\n".join(lines)
