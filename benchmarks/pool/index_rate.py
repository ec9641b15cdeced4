"""How fast tars are scanned, and what an index of many rows costs in time and memory.

python benchmarks/pool/index_rate.py --rows 10000000

Scanning: the same tars by ours, by `tarfile` (headers alone), and by webdataset's reader, which
reads the payloads too; one process each, the best of three, files in the page cache.
Index: shard files of made-up rows are written directly, then a version is made of them and opened.
"""

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from selffilter.pool import index, index_files, uids
from selffilter.pool.base import Base
from selffilter.pool.index import Pool
from selffilter.pool.sources import ShardPath
from selffilter.pool.stores.store import Stat
from selffilter.pool.tar_scan import scan_tar

TARS, SAMPLES = 4, 2_500
ROWS_A_SHARD = 10_000


def write_tars(folder: Path, image_bytes: int, with_uid: bool) -> list[Path]:
    image = os.urandom(image_bytes)
    about = {"caption": "some words about a picture", "url": "https://example.org/picture.jpg",
             "status": "success", "width": 256, "height": 256, "sha256": "0" * 64}  # fmt: skip
    paths = []
    for shard in range(TARS):
        paths.append(folder / f"{shard:05d}.tar")
        with tarfile.open(paths[-1], "w") as tar:
            for i in range(SAMPLES):
                key = f"{shard:05d}{i:04d}"
                stated = {"uid": os.urandom(16).hex()} if with_uid else {}
                members = {
                    "jpg": image,
                    "json": json.dumps(about | {"key": key} | stated).encode(),
                    "txt": b"some words about a picture",
                }
                for extension, data in members.items():
                    info = tarfile.TarInfo(f"{key}.{extension}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return paths


def by_ours(paths: list[Path]) -> int:
    return sum(len(scan_tar(str(path), "s", path.name, "txt").keys) for path in paths)


def by_tarfile(paths: list[Path]) -> int:
    members = 0
    for path in paths:
        with tarfile.open(path) as tar:
            while tar.next() is not None:
                members += 1
                tar.members = []
    return members // 3


def by_webdataset(paths: list[Path]) -> int:
    import webdataset as wds  # here: it brings torch, whose memory is not the index's

    reader = wds.WebDataset([str(path) for path in paths], shardshuffle=False)
    return sum(1 for _ in reader)


def scan_rates(image_bytes: int, with_uid: bool) -> dict[str, float]:
    rates = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = write_tars(Path(folder), image_bytes, with_uid)
        for name, scan in (("ours", by_ours), ("tarfile", by_tarfile), ("wds", by_webdataset)):
            times = []
            for _ in range(3):
                begin = time.perf_counter()
                assert scan(paths) == TARS * SAMPLES
                times.append(time.perf_counter() - begin)
            rates[name] = TARS * SAMPLES / min(times)
    return rates


def write_shards(index_dir: Path, rows: int) -> list[tuple[str, ShardPath, Stat]]:
    """Write the index files of made-up shards; one row in a thousand repeats a uid."""
    shards = []
    rng = np.random.default_rng(0)
    first_uids = rng.integers(0, 1 << 64, (10, 2), dtype=np.uint64)
    for number in range(rows // ROWS_A_SHARD):
        offset = np.arange(ROWS_A_SHARD, dtype=np.int64) * 22_528 + 512
        uid = rng.integers(0, 1 << 64, (ROWS_A_SHARD, 2), dtype=np.uint64)
        uid[:10] = first_uids
        lacking = np.where(rng.random(ROWS_A_SHARD) < 0.05, -1, offset)  # pools rot
        columns = [
            pa.array([f"{number:05d}{i:04d}" for i in range(ROWS_A_SHARD)]),
            uids.to_arrow(uid),
            pa.array(lacking), pa.array(np.full(ROWS_A_SHARD, 20_000)),
            pa.array(offset + 20_480), pa.array(np.full(ROWS_A_SHARD, 60)),
            pa.array(offset + 21_504), pa.array(np.full(ROWS_A_SHARD, 400)),
        ]  # fmt: skip
        about = {
            "problem": "",
            "bytes": "0",
            "extensions": json.dumps({"jpg": 9_500, "txt": 9_500}),
        }
        schema = index_files.ROW_SCHEMA.with_metadata(about)
        name = f"{number:024x}"
        path = index_files.rows_file(index_dir, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with pa.ipc.new_file(str(path), schema) as writer:  # not synced one by one: it is no index
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
        relative = f"{number:05d}.tar"
        shards.append((name, ShardPath("s", relative, f"/s/{relative}"), Stat(1 << 28, "")))
    return shards


def in_a_process_of_its_own(step: str, index_dir: Path, rows: int) -> dict[str, float]:
    words = [sys.executable, __file__, "--rows", str(rows), "--step", step, "--dir", str(index_dir)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def step_version(index_dir: Path, rows: int) -> dict[str, float]:
    shards = [
        (f"{n:024x}", ShardPath("s", f"{n:05d}.tar", f"/s/{n:05d}.tar"), Stat(1 << 28, ""))
        for n in range(rows // ROWS_A_SHARD)
    ]
    before, begin = peak_mb(), time.perf_counter()
    index.write_version(shards, index_dir, "txt", ["made up"])
    return {"seconds": time.perf_counter() - begin, "peak_mb": peak_mb(), "imports_mb": before}


def step_open(index_dir: Path, rows: int) -> dict[str, float]:
    before, begin = peak_mb(), time.perf_counter()
    pool = Pool.latest(index_dir)
    opened = time.perf_counter()
    base = Base(pool, 0, probe_fraction=0.005)
    based = time.perf_counter()
    assert pool.rows == rows
    walked = sum(len(base.weighted_rows(shard)[0]) for shard in range(pool.shards))
    assert walked == base.size
    return {
        "pool_seconds": opened - begin,
        "base_seconds": based - opened,
        "walk_seconds": time.perf_counter() - based,
        "peak_mb": peak_mb(),
        "imports_mb": before,
    }


def compare_scans() -> None:
    print("scan, samples/s (one process)      ours  tarfile (headers)  webdataset (all bytes)")
    for image_bytes, with_uid in ((5_000, False), (20_000, False), (20_000, True), (80_000, False)):
        rates = scan_rates(image_bytes, with_uid)
        times = {name: rate / rates["wds"] for name, rate in rates.items()}
        what = f"{image_bytes // 1000} kB images" + (", uid in json" if with_uid else "")
        print(
            f"{what:<28}{rates['ours']:>11,.0f} = {times['ours']:.1f} x"
            f"{rates['tarfile']:>11,.0f} = {times['tarfile']:.1f} x{rates['wds']:>17,.0f} = 1 x"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--dir", type=Path)
    parser.add_argument("--no-scan", action="store_true", help="the index alone")
    parser.add_argument("--step", choices=["version", "open"])
    args = parser.parse_args()
    if args.step:
        step = step_version if args.step == "version" else step_open
        print(json.dumps(step(args.dir, args.rows)))
        return
    if not args.no_scan:
        compare_scans()
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        begin = time.perf_counter()
        write_shards(Path(folder), args.rows)
        size = sum(path.stat().st_size for path in Path(folder).rglob("*.arrow"))
        took = time.perf_counter() - begin
        print(
            f"\n{args.rows:,} rows in {args.rows // ROWS_A_SHARD:,} shards, {size / 1e9:.2f} GB of "
            f"index ({took:.0f} s to make them up)"
        )
        version = in_a_process_of_its_own("version", Path(folder), args.rows)
        opened = in_a_process_of_its_own("open", Path(folder), args.rows)

    def peak(found: dict[str, float]) -> str:
        return f"peak {found['peak_mb']:,.0f} MB ({found['imports_mb']:,.0f} MB after the imports)"

    print(f"make the version   {version['seconds']:6.1f} s, {peak(version)}")
    print(f"open Pool          {opened['pool_seconds']:6.2f} s")
    print(f"open Base          {opened['base_seconds']:6.2f} s")
    print(f"walk weighted_rows {opened['walk_seconds']:6.2f} s, {peak(opened)}")


if __name__ == "__main__":
    main()
