"""Any batch of the plan at 10⁶ to 10⁹ rows: time and memory, beside a permutation held in memory.

    python benchmarks/pool/plan_scale.py [--largest 9]

Each line is a process of its own. A selection of 30 % of a pool of 10,000-row shards, which row is
in it decided by a hash, so that no file stands in for 10⁹ rows; what a plan keeps of a selection
on disk is the same: a count a shard. The permutation is numpy's, of the same selected rows, where
it fits (8 bytes a row, and as much again while it is made).
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import numpy as np

from selffilter.randomness import below_fraction
from selffilter.training.batch_plan import BatchPlan

SHARD_ROWS = 10_000
BATCH = 4096
KEPT = 0.3


class HashedRows:
    """A selection as a plan's `WeightedRows`, by arithmetic."""

    def __init__(self, rows: int) -> None:
        self._shards = rows // SHARD_ROWS
        self.counts_PS = np.array([[len(self.rows(s, 0)) for s in range(self._shards)]])

    def rows(self, shard: int, pass_: int) -> np.ndarray:
        rows = np.arange(shard * SHARD_ROWS, (shard + 1) * SHARD_ROWS, dtype=np.int64)
        return rows[below_fraction(rows, KEPT, "kept")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--largest", type=int, default=9, help="power of ten")
    parser.add_argument("--one", nargs=2, metavar=("WAY", "ROWS"))
    args = parser.parse_args()
    if args.one:
        WAYS[args.one[0]](int(args.one[1]))
        return
    print(
        f"{'rows':>6} {'way':>12} {'counts s':>9} {'make s':>8} {'any batch ms':>13} "
        f"{'next batch ms':>14} {'peak MB more':>13}"
    )
    for power in range(6, args.largest + 1):
        for way in WAYS:
            if way == "permutation" and power > 8:
                continue
            subprocess.run([sys.executable, __file__, "--one", way, str(10**power)], check=True)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def by_plan(rows: int) -> None:
    before, began = peak_mb(), time.perf_counter()
    selected = HashedRows(rows)
    counted = time.perf_counter() - began
    began = time.perf_counter()
    plan = BatchPlan(selected, BATCH, seed=0, round_=1)
    made = time.perf_counter() - began
    steps = np.random.default_rng(0).integers(0, plan.batches_per_epoch, 10).tolist()
    anywhere, following = [], []
    for step in steps:
        began = time.perf_counter()
        plan.batch(step)
        anywhere.append(time.perf_counter() - began)
        began = time.perf_counter()
        plan.batch(step + 1)
        following.append(time.perf_counter() - began)
    line(rows, "plan", counted, made, np.median(anywhere), np.median(following), before)


def by_permutation(rows: int) -> None:
    before, began = peak_mb(), time.perf_counter()
    order = np.random.default_rng(0).permutation(int(rows * KEPT))
    made = time.perf_counter() - began
    began = time.perf_counter()
    middle = len(order) // 2
    np.sort(order[middle : middle + BATCH])
    found = time.perf_counter() - began
    line(rows, "permutation", 0, made, found, found, before)


def line(rows, way, counted, made, anywhere, following, before) -> None:
    print(
        f"{rows:>6.0e} {way:>12} {counted:>9.2f} {made:>8.3f} {1e3 * anywhere:>13.1f} "
        f"{1e3 * following:>14.1f} {peak_mb() - before:>13.0f}",
        flush=True,
    )


WAYS = {"plan": by_plan, "permutation": by_permutation}

if __name__ == "__main__":
    main()
