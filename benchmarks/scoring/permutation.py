"""negCLIPLoss over permuted batches of N memory-mapped rows: seconds and peak memory.

    python benchmarks/scoring/permutation.py FOLDER --rows 100000 1000000 \\
        [--batch 4096] [--draws 1] [--memory-gb 1] [--device cpu]

Each line is a process of its own. The embeddings are written under FOLDER first (2 kB a row at
width 512) and stay there. The time is N × batch × draws × 2·D multiplications and additions at the
rate of the device, beside which reading hardly counts.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch
from synthetic import written

from selffilter.scoring.embeddings.usable import unusable_rows
from selffilter.scoring.permutation import permuted_neg_clip_loss
from selffilter.scoring.ready import identities


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--memory-gb", type=float, default=1.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        one(args)
        return
    print(
        f"{'rows':>11} {'batch':>6} {'draws':>5} {'check s':>8} {'score s':>8} {'µs/row/draw':>12} "
        f"{'GFLOP/s':>8} {'peak GB':>8} {'its own GB':>13}"
    )
    for rows in args.rows:
        written(args.folder / f"{rows}x{args.width}", rows, args.width)
        command = [sys.executable, __file__, *sys.argv[1:], "--one"]
        subprocess.run([*command, "--rows", str(rows)], check=True)


def one(args: argparse.Namespace) -> None:
    peak = PeakAnonymous()
    peak.start()
    rows = args.rows[0]
    embeddings = written(args.folder / f"{rows}x{args.width}", rows, args.width)
    began = time.perf_counter()
    usable = unusable_rows(embeddings) == 0
    identity = identities(embeddings)
    checked = time.perf_counter()
    scores = permuted_neg_clip_loss(
        embeddings,
        identity,
        usable,
        temperature=0.01,
        seed=0,
        batch_size=args.batch,
        draws=args.draws,
        device=args.device,
        memory_bytes=int(args.memory_gb * 2**30),
    )
    seconds = time.perf_counter() - checked
    assert np.isfinite(scores).all()
    flops = rows * args.batch * args.draws * 2 * args.width
    more = ""
    if args.device != "cpu":
        more = f"  {torch.cuda.max_memory_allocated() / 1e9:.2f} GB on the device"
    print(
        f"{rows:>11,} {args.batch:>6} {args.draws:>5} {checked - began:>8.1f} {seconds:>8.1f} "
        f"{1e6 * seconds / rows / args.draws:>12.1f} {flops / seconds / 1e9:>8.0f} "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:>8.2f} "
        f"{peak.gb:>13.2f}{more}",
        flush=True,
    )


class PeakAnonymous(threading.Thread):
    """The most memory that was the process's own, and not pages of the mapped files."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.gb = 0.0

    def run(self) -> None:
        while True:
            status = Path("/proc/self/status").read_text()
            self.gb = max(self.gb, int(status.split("RssAnon:")[1].split()[0]) / 1e6)
            time.sleep(0.02)


if __name__ == "__main__":
    main()
