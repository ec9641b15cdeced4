"""Selected samples a second, requests and bytes, from a server whose answers come 20 ms late.

    python benchmarks/pool/s3_latency.py [--via http s3] [--shards 16] [--samples 1000]
    python benchmarks/pool/s3_latency.py --via moto --shards 4 --samples 500 --batch 32

Three ways to the bytes of the same samples, each in one process, by turns in one run:

- *by batch*: the batches of the plan one after the other, all requests of a batch at one time;
- *ahead*: what the process beside training does: the rows of a window of the plan go into packs,
  and the batches are read from there; here one after the other, so nothing is done meanwhile;
- *webdataset*: its reader over all shards through ``pipe:curl``, with a filter on the json's uid.

The server runs in a process of its own on this machine: it shares its cores, and bytes arrive as
fast as memory allows, so that webdataset, which fetches everything, has no network to wait for.

- *http*: a plain web server of ranges (`serving.py`);
- *s3*: the same server, asked through s3fs, which signs each request;
- *moto*: an S3 server; it takes longer for a request than the latency, so its rates say little, but
  requests and bytes are those that S3 would count. (webdataset fetches the same keys unsigned.)

Requests and bytes are counted by the server: all requests, and bytes of bodies by bytes of the
selected images and captions.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from delivery import SHARES, stream
from photos import write_photo_pool
from serving import FolderServer, ServingProcess, serving

from selffilter.pool import uids
from selffilter.pool.base import Base
from selffilter.pool.index import Pool, build_index
from selffilter.pool.packs import packs_at
from selffilter.pool.prefetch import Fetching
from selffilter.pool.row_reader import REQUEST_BYTES, RowReader
from selffilter.pool.subset import write_subset
from selffilter.training.batch_plan import BatchPlan, WholeBase

MEMBERS = ("image", "caption")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--via", nargs="+", choices=("http", "s3", "moto"), default=["http", "s3"])
    parser.add_argument("--latency-ms", type=float, default=20.0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--samples", type=int, default=1000, help="a shard")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--window", type=int, default=64, help="batches a window")
    parser.add_argument("--request-bytes", type=int, default=REQUEST_BYTES)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (args.folder or Path(scratch)) / "pool"
        every_uid = write_photo_pool(folder, args.shards, args.samples)
        size = sum(path.stat().st_size for path in folder.glob("*.tar"))
        print(
            f"{len(every_uid):,} samples in {args.shards} shards, {size / 1e6:,.0f} MB, answers "
            f"{args.latency_ms:.0f} ms late, batches of {args.batch}"
        )
        print(
            f"{'':16}{'samples/s':^33} {'ratio to webds':^15} {'requests':^24} "
            f"{'bytes read / selected':^23}"
        )
        print(
            f"{'via':>5} {'kept':>4} {'of':>5} {'by batch':>10} {'ahead':>10} {'webdataset':>10} "
            f"{'by batch':>8} {'ahead':>6} {'by batch':>8} {'ahead':>7} {'webds':>7} "
            f"{'by batch':>8} {'ahead':>6} {'webds':>7}"
        )
        for via in args.via:
            measure_via(via, folder, every_uid, args, Path(scratch))


def measure_via(
    via: str, folder: Path, every_uid: list[str], args: argparse.Namespace, scratch: Path
) -> None:
    names = f"{{00000..{args.shards - 1:05d}}}.tar"
    if via == "moto":
        from s3_server import S3Server

        server = serving(S3Server, folder, args.latency_ms / 1000)
    else:
        server = serving(FolderServer, folder.parent, args.latency_ms / 1000)
    with server as running:
        place = f"{running.url}/pool"
        if via != "http":
            from s3_server import environment

            os.environ |= environment(running.url)
        spec = f"{place}/{names}" if via == "http" else f"s3://pool/{names}"
        index = scratch / f"index-{via}"
        pool = Pool(index, build_index([spec], index))
        commands = [f"pipe:curl -sf {place}/{shard:05d}.tar" for shard in range(args.shards)]
        for share in SHARES:
            measure(via, share, pool, every_uid, running, commands, args, scratch)


def measure(
    via: str,
    share: float,
    pool: Pool,
    every_uid: list[str],
    server: ServingProcess,
    commands: list[str],
    args: argparse.Namespace,
    scratch: Path,
) -> None:
    order = np.random.default_rng(0).permutation(pool.rows)
    chosen = np.sort(order[: round(share * pool.rows)]).astype(np.int64)
    names = {every_uid[row] for row in chosen}
    subset = scratch / f"{share}.npy"
    write_subset(subset, uids.from_hex(sorted(names)))
    sizes = sum(pool.places(shard)[member][1][mine].sum() for shard in range(pool.shards)
                for mine in [chosen[pool.shard_of(chosen) == shard] - pool.first_row[shard]]
                for member in MEMBERS)  # fmt: skip
    batch = min(args.batch, len(chosen))
    plan = plan_of(pool, subset, batch, args)

    ways: dict[str, Callable[[], int]] = {
        "by batch": lambda: read_by_batch(pool, plan, args),
        "ahead": lambda: read_ahead(pool, plan, args),
        "webdataset": lambda: stream(commands, batch, None, names),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    costs: dict[str, dict[str, float]] = {}
    for _ in range(args.repeat):
        for name, way in ways.items():
            server.forget()
            began = time.perf_counter()
            count = way()
            rates[name].append(count / (time.perf_counter() - began))
            # The plan leaves less than a batch for the next pass.
            assert len(chosen) - batch < count <= len(chosen), (name, count)
            counts = server.counts()
            costs[name] = {
                "requests": counts["requests"],
                "bytes": counts["bytes"] / sizes * len(chosen) / count,
            }
    rate = {name: statistics.median(found) for name, found in rates.items()}
    ours, theirs = ("by batch", "ahead"), "webdataset"
    print(
        f"{via:>5} {share:>4} {len(chosen):>5} "
        + " ".join(f"{rate[name]:>10,.0f}" for name in ways)
        + " "
        + " ".join(f"{rate[n] / rate[theirs]:>{w}.1f}" for n, w in zip(ours, (8, 6), strict=True))
        + " "
        + " ".join(f"{costs[n]['requests']:>{w},.0f}" for n, w in zip(ways, (8, 7, 7), strict=True))
        + " "
        + " ".join(f"{costs[n]['bytes']:>{w}.2f}" for n, w in zip(ways, (8, 6, 7), strict=True)),
        flush=True,
    )


def plan_of(pool: Pool, subset: Path, batch: int, args: argparse.Namespace) -> BatchPlan:
    base = Base(pool, seed=0, subset=subset)
    return BatchPlan(WholeBase(base), batch, seed=0, round_=0, window_batches=args.window)


def read_by_batch(pool: Pool, plan: BatchPlan, args: argparse.Namespace) -> int:
    """Read the batches one after the other; return how many rows."""
    reader = RowReader(pool, args.request_bytes)
    return sum(
        len(reader.read(plan.batch(step), MEMBERS)) for step in range(plan.batches_per_epoch)
    )


def read_ahead(pool: Pool, plan: BatchPlan, args: argparse.Namespace) -> int:
    """Put each window's rows into packs and read its batches from there; return how many rows."""
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        packs = packs_at(folder, 16.0)
        fetching = Fetching(pool, packs, MEMBERS, args.request_bytes, {})
        reader = RowReader(pool, args.request_bytes, packs)
        for stretch in plan.stretches(0, plan.batches_per_epoch):
            fetching.fetch(np.sort(np.concatenate([plan.batch(step) for step in stretch])))
            for step in stretch:
                count += len(reader.read(plan.batch(step), MEMBERS))
        assert reader.reads.requests == 0  # all of it lay in packs
    return count


if __name__ == "__main__":
    main()
