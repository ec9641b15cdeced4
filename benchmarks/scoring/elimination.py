"""Dynamic elimination against the direct way: seconds, rows looked at, and whether they agree.

    python benchmarks/scoring/elimination.py FOLDER --rows 100000 --width 128 --direct
    python benchmarks/scoring/elimination.py FOLDER --rows 100000 --width 512 --direct-rounds 5
    python benchmarks/scoring/elimination.py FOLDER --rows 1000000 --width 512

A third of the rows go, in 168 rounds by default (VAS-D's setting for DataComp-small: 45 % → 30 %).
The direct way takes Σ and all scores anew in every round, in float64, with the features in memory.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np
import torch
from synthetic import written

from selffilter.scoring.elimination import elimination_steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=168)
    parser.add_argument("--keep", type=float, default=2 / 3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--direct", action="store_true", help="do it directly too")
    parser.add_argument(
        "--direct-rounds", type=int, help="so many rounds directly, the rest by their cost"
    )
    args = parser.parse_args()
    embeddings = written(args.folder / f"{args.rows}x{args.width}", args.rows, args.width)
    rows, uids = np.arange(args.rows), embeddings.uids()
    keep, looked_at = round(args.keep * args.rows), []

    def features_of(asked: np.ndarray) -> torch.Tensor:
        looked_at.append(len(asked))
        return embeddings.gather("image", asked, args.device)

    began = time.perf_counter()
    found = elimination_steps(features_of, rows, uids, keep=keep, rounds=args.rounds)
    incremental = time.perf_counter() - began
    passes = sum(looked_at) / args.rows
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{args.rows:,} × {args.width}, {args.rounds} rounds to {keep:,}: {incremental:.1f} s, "
        f"each row looked at {passes:.1f} times, peak {peak:.2f} GB",
        flush=True,
    )
    if args.direct or args.direct_rounds:
        image = embeddings.gather("image", rows, args.device).double()
        by_hand, seconds, rounds = direct(image, uids, keep, args.rounds, args.direct_rounds)
        same = found[found <= rounds] == by_hand[found <= rounds]
        part = "" if rounds == args.rounds else f" (from {rounds} rounds)"
        print(
            f"directly {seconds:.1f} s{part}, {seconds / incremental:.1f} times as long; "
            f"{int((~same).sum())} of {len(same):,} rows dropped in another round",
            flush=True,
        )


def direct(image, uids, keep, rounds, only=None):
    """As written; `only` some rounds, the time of the others by the rows that they would have."""
    alive, step = np.arange(len(image)), np.full(len(image), rounds + 1)
    drop = -(-(len(image) - keep) // rounds)
    began, work, done = time.perf_counter(), 0, 0
    for t in range(1, rounds + 1):
        if t > (only or rounds):
            break
        count = min(drop, len(alive) - keep)
        left = image[alive]
        sigma = left.T @ left / len(alive)
        scores = ((left @ sigma) * left).sum(1).cpu().numpy().astype(np.float32)
        order = np.lexsort((alive, uids[alive, 1], uids[alive, 0]))[::-1]
        order = order[np.argsort(scores[order], kind="stable")][:count]
        step[alive[order]] = t
        work, done = work + len(alive), t
        alive = np.delete(alive, order)
    seconds = time.perf_counter() - began
    whole = sum(max(keep, len(image) - t * drop) for t in range(rounds))
    return step, seconds * whole / work, done


if __name__ == "__main__":
    main()
