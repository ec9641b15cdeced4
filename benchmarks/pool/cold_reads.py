"""Batches of scattered samples from a disk whose cache is empty: announced together, or one by one.

    python benchmarks/pool/cold_reads.py [--folder DIR] [--batch 128] [--batches 8]

The same spans of photo-like shards through `LocalStore`, which announces all spans of a call to the
operating system before it reads the first, and through the same store kept from doing so, in turns;
before each turn the shards are dropped from the page cache. "From disk" is what the kernel counts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from photos import write_photo_pool

from selffilter.pool.stores.local import LocalStore
from selffilter.pool.stores.store import Span


class OneByOne(LocalStore):
    """Asks for a span when it is its turn."""

    def announce(self, spans: list[Span]) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--batch", type=int, default=128, help="samples of 20 kB")
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        write_photo_pool(folder, 8, 1250)
        tars = sorted(folder.glob("*.tar"))
        rng = np.random.default_rng(0)
        took: dict[str, list[float]] = {"one by one": [], "announced": []}
        disk: dict[str, list[float]] = {"one by one": [], "announced": []}
        for _ in range(args.repeat):
            batches = [scattered(tars, args.batch, rng) for _ in range(args.batches)]
            for name, store in (("one by one", OneByOne()), ("announced", LocalStore())):
                for tar in tars:
                    drop_from_cache(tar)
                before, began = read_from_disk(), time.perf_counter()
                for spans in batches:
                    store.read(spans)
                took[name].append(time.perf_counter() - began)
                disk[name].append(read_from_disk() - before)
    samples = args.batch * args.batches
    for name in took:
        print(
            f"{name:>10}: {samples / statistics.median(took[name]):>8,.0f} samples/s, "
            f"from disk / asked for {statistics.median(disk[name]) / (samples * 20_000):.2f}"
        )
    ratio = statistics.median(took["one by one"]) / statistics.median(took["announced"])
    print(f"announced: {ratio:.1f} times the rate")


def scattered(tars: list[Path], count: int, rng: np.random.Generator) -> list[Span]:
    chosen = rng.integers(0, len(tars), count)
    starts = [int(rng.integers(0, tars[i].stat().st_size - 20_000)) for i in chosen]
    return sorted(Span(str(tars[i]), s, s + 20_000) for i, s in zip(chosen, starts, strict=True))


def drop_from_cache(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def read_from_disk() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("read_bytes")))


if __name__ == "__main__":
    main()
