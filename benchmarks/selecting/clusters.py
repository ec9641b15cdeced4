"""Clusters, near- and exact duplicates: seconds and memory, and the matrix product alone beside it.

    python benchmarks/selecting/clusters.py FOLDER --rows 1000000 --width 512 --clusters 1000
    python benchmarks/selecting/clusters.py FOLDER --rows 100000 --width 512 --clusters 100 --near
    python benchmarks/selecting/clusters.py FOLDER --hashes 100000000

The embeddings are synthetic, on disk as a round leaves them (float16); what is there is taken.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parent.parent / "scoring"))
from synthetic import written

from selffilter.selecting.clusters import SAMPLE_A_CLUSTER, assign, cluster
from selffilter.selecting.cosines import streamed
from selffilter.selecting.duplicates import exact_duplicates, near_duplicates
from selffilter.stages.embedded import RowFeatures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--clusters", type=int, default=1000)
    parser.add_argument("--sample", type=int, help="rows to fit on; 256 a cluster by default")
    parser.add_argument("--near", type=float, help="remove near-duplicates of at least this cosine")
    parser.add_argument("--hashes", type=int, help="so many hashes instead, a tenth of them twice")
    args = parser.parse_args()
    if args.hashes:
        exact(args.hashes)
    else:
        clusters(args)


def clusters(args: argparse.Namespace) -> None:
    embeddings = written(args.folder / f"{args.rows}x{args.width}", args.rows, args.width)
    features = RowFeatures(embeddings, args.rows)
    every = np.ones(args.rows, bool)
    sample = min(args.rows, args.sample or SAMPLE_A_CLUSTER * args.clusters)
    with told(f"fitting {args.clusters:,} clusters to {sample:,} rows, and assigning"):
        found = cluster(features, every, args.clusters, 0, sample=sample)
    sizes = found.sizes_K
    print(f"sizes: {sizes[0]:,} to {sizes[-1]:,}, median {int(np.median(sizes)):,}", flush=True)
    with told(f"reading {args.rows:,} × {args.width} alone"):
        for _ in streamed(features, every):
            pass
    with told("reading and the matrix product alone"):
        for _, features_nD in streamed(features, every):
            np.matmul(features_nD, found.centroids_KD.T)
    with told("assigning") as again:
        codes_N = assign(features, every, found.centroids_KD)
        again.append(f"as before: {np.array_equal(codes_N, found.codes_N)}")
    if args.near:
        merit_N = np.random.default_rng(0).random(args.rows, np.float32)
        with told(f"near-duplicates of at least {args.near}") as removed:
            gone = near_duplicates(found.codes_N, merit_N, every, by_row, features, args.near)
            removed.append(f"{len(gone.rows_R):,} removed")


def exact(count: int) -> None:
    rng = np.random.default_rng(0)
    hashes_N = rng.integers(1, 2**64 - 1, count, dtype=np.uint64)
    twice = rng.integers(0, count, count // 10)
    hashes_N[twice] = hashes_N[(twice + 1) % count]
    merit_N = rng.random(count, np.float32)
    with told(f"exact duplicates of {count:,} hashes") as removed:
        gone = exact_duplicates(hashes_N, merit_N, np.ones(count, bool), by_row)
        removed.append(f"{len(gone.rows_R):,} removed")


def by_row(rows: np.ndarray) -> np.ndarray:
    return np.stack([rows, rows], axis=1).astype(np.uint64)


@contextmanager
def told(what: str):
    """Say how long something took, and the most memory since the process began."""
    notes: list[str] = []
    began, before = time.perf_counter(), peak_gb()
    yield notes
    took = time.perf_counter() - began
    grown = f"peak {peak_gb():.2f} GB (+{peak_gb() - before:.2f})"
    print(f"{what}: {took:.1f} s, {grown}", *notes, sep="; ", flush=True)


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
