"""Selecting from a million to 128 million rows: seconds and memory, from tables to a selection.

python benchmarks/selecting/scale.py --folder /tmp/scores
python benchmarks/selecting/scale.py --folder /tmp/scores --rows 1_000_000 --check

Score tables of 10,000 rows a shard are made first (24 bytes a row; kept for the next time), then
`selffilter select` selects from them in a process of its own, with the shipped defaults. --check
compares what is written with a naive selection of one line of numpy, and with the same from arrays
on the disk.
"""

import argparse
import hashlib
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from selffilter.config import load_config
from selffilter.pool.uids import from_arrow
from selffilter.randomness import draw
from selffilter.standalone.choose import run_choice
from selffilter.tables import scores_schema, shard_file
from selffilter.threads import several

ROWS_A_SHARD = 10_000
SIGNAL = "neg_clip_loss"
SIZES = [1_000_000, 4_000_000, 16_000_000, 64_000_000, 128_000_000]


def make(folder: Path, rows: int) -> None:
    """Scores like a model's, 1 % failures, 0.5 % probe; uids at random."""
    shards = rows // ROWS_A_SHARD
    folder.mkdir(parents=True, exist_ok=True)

    def write(shard: int) -> None:
        path = shard_file(folder, shard)
        if path.exists():
            return
        rng, n = np.random.default_rng(shard), ROWS_A_SHARD
        failure = (rng.random(n) < 0.01).astype(np.uint8)
        score = (rng.standard_normal(n) * 0.06 + 0.2).astype(np.float32)
        score[failure > 0] = np.nan
        uid = rng.bytes(16 * n)
        arrays = [
            pa.array(np.arange(shard * n, (shard + 1) * n)),
            pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), n, [None, pa.py_buffer(uid)]),
            pa.array(score),
            pa.array(failure),
            pa.array((rng.random(n) < 0.005) & (failure == 0)),
            pa.array(np.zeros(n, bool)),
            pa.array(np.zeros(n, np.int32)),
        ]
        table = pa.Table.from_arrays(arrays, schema=scores_schema([SIGNAL], facts=()))
        pq.write_table(table, path, compression="zstd")

    for _ in several(write, range(shards)):
        pass
    source = {"kind": "synthetic", "rows": rows, "shards": shards}
    record = {
        "version": 1,
        "source": source,
        "scorer": {"signals": [SIGNAL]},
        "made_with": {},
    }
    (folder / "scores.json").write_text(json.dumps(record))


def one(folder: Path, out: Path, memory_gb: float) -> None:
    """Select once, in this process, and say what it took."""
    start = time.perf_counter()
    config = load_config(None, ["pool.shards=[.]", f"select.memory_gb={memory_gb}"])
    run_choice([folder], out, config)
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {"seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime}
    print(json.dumps(found | {"peak_gb": used.ru_maxrss / 2**20}))


def measure(folder: Path, out: Path, memory_gb: float) -> dict[str, float]:
    """Select in a fresh process."""
    words = [sys.executable, __file__, "--one", str(folder), str(out), str(memory_gb)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def check(folder: Path, out: Path, rows: int) -> None:
    """Compare with a naive selection, and arrays in memory with arrays on the disk."""
    names = ["uid", SIGNAL, "failure", "probe"]
    table = pa.concat_tables(
        [
            pq.read_table(p, columns=names, partitioning=None)
            for p in sorted(folder.glob("*.parquet"))
        ]
    )
    score, uid = table[SIGNAL].to_numpy(), from_arrow(table["uid"].combine_chunks())
    base = np.flatnonzero((table["failure"].to_numpy() == 0) & ~table["probe"].to_numpy())
    select = load_config(None, ["pool.shards=[.]"]).select
    order = np.lexsort((base, uid[base, 1], uid[base, 0], -score[base]))
    confident = set(base[order[: round(select.keep(0) * len(base))]].tolist())
    drawn = draw(base, round(select.diverse(0) * len(base)), 0, "diverse", 0)
    wanted = sorted(confident | set(drawn.tolist()))

    tables = [pq.read_table(path, partitioning=None) for path in sorted(out.glob("0*.parquet"))]
    found = pa.concat_tables(tables)
    got = found["row"].to_numpy()
    marked = got[np.asarray(found["share"].cast(pa.string())) == "confident"]
    better = np.searchsorted(np.sort(-score[base]), -score[got], side="left")
    same_rank = bool((found["rank"].to_numpy() == better).all())
    print(f"{rows:,} rows: rows as selected naively: {got.tolist() == wanted}, confident ones: "
          f"{set(marked.tolist()) == confident}, ranks: {same_rank}")  # fmt: skip
    again = out.with_name(f"{out.name}-on-disk")
    measure(folder, again, 0)
    print(f"arrays on the disk give the same bytes: {digest(out) == digest(again)}")


def digest(folder: Path) -> str:
    """Return what tells the selection in a folder from others."""
    found = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".parquet", ".npy"):
            found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rows", type=int, nargs="*", default=SIZES)
    parser.add_argument("--memory-gb", type=float, default=16.0)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--one", nargs=3)
    asked = parser.parse_args()
    if asked.one:
        one(Path(asked.one[0]), Path(asked.one[1]), float(asked.one[2]))
        return
    for old in asked.folder.glob("selection-*"):
        shutil.rmtree(old)
    print("         rows  seconds  µs a row  CPU seconds  peak GB  bytes a row")
    for rows in asked.rows:
        # A folder each: ext4 is slow to make files where many were just removed.
        folder, out = asked.folder / f"{rows}", asked.folder / f"selection-{rows}"
        make(folder, rows)
        took = measure(folder, out, asked.memory_gb)
        seconds, peak = took["seconds"], took["peak_gb"]
        print(f"{rows:>13,} {seconds:>8.1f} {seconds / rows * 1e6:>9.3f} "
              f"{took['cpu_seconds']:>12.1f} {peak:>8.2f} {peak * 2**30 / rows:>12.1f}",
              flush=True)  # fmt: skip
        if asked.check:
            check(folder, out, rows)


if __name__ == "__main__":
    main()
