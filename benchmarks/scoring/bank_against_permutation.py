"""How alike the two forms of negCLIPLoss order a pool: rank correlation, by size of the bank.

    python benchmarks/scoring/bank_against_permutation.py EMBEDDINGS [--synthetic --rows 20000]

EMBEDDINGS is any folder of embeddings (ours, clip-retrieval's, DataComp's metadata); with
--synthetic, such are written there if there is none. Beside it: the permutation form against
itself with another seed (what its own chance costs), and against the plain cosine.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from synthetic import written

from selffilter.scoring.embeddings.find import open_embeddings
from selffilter.scoring.embeddings.usable import unusable_rows
from selffilter.scoring.permutation import permuted_neg_clip_loss
from selffilter.scoring.ready import draw_bank, identities, score_embeddings
from selffilter.scoring.signals.facts import Facts
from selffilter.scoring.signals.find import find_signal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("--synthetic", action="store_true", help="make them, if they are not there")
    parser.add_argument("--rows", type=int, default=20_000, help="of synthetic embeddings")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--banks", type=int, nargs="+", default=[256, 1024, 4096, 16384])
    parser.add_argument("--temperature", type=float, default=0.01)
    parser.add_argument("--keep", type=float, default=0.3, help="share whose overlap is told")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if args.synthetic and not args.embeddings.exists():
        written(args.embeddings, args.rows, args.width)
    embeddings = open_embeddings(args.embeddings)
    usable = unusable_rows(embeddings) == 0
    identity = identities(embeddings)

    def permuted(seed: int, draws: int) -> np.ndarray:
        return permuted_neg_clip_loss(
            embeddings, identity, usable, temperature=args.temperature, seed=seed,
            batch_size=args.batch, draws=draws, device=args.device,
        )[usable]  # fmt: skip

    published = permuted(0, args.draws)
    print(
        f"{usable.sum():,} rows; permutation form: {args.draws} batches of {args.batch}, "
        f"τ = {args.temperature}"
    )
    print(f"{'against':<34} {'rank correlation':>17} {f'overlap of best {args.keep:.0%}':>21}")

    def line(name: str, scores: np.ndarray) -> None:
        kept = round(args.keep * len(scores))
        best = [set(np.argsort(-s)[:kept].tolist()) for s in (scores, published)]
        overlap = len(best[0] & best[1]) / kept
        print(f"{name:<34} {spearmanr(scores, published).statistic:>17.5f} {overlap:>21.4f}")

    for draws in sorted({1, 5, args.draws}):
        line(f"permutation, another seed, K = {draws}", permuted(1, draws))
    for size in args.banks:
        bank = draw_bank(embeddings, identity, usable, size, seed=0, device=args.device)
        found = score_embeddings(
            embeddings, {"s": find_signal("neg_clip_loss")}, Facts(args.temperature, bank), usable,
            rows_at_once=1024, device=args.device,
        )["s"]  # fmt: skip
        line(f"bank of {len(bank.row_M):,}", found[usable])
    cosine = score_embeddings(
        embeddings, {"s": find_signal("cosine")}, Facts(args.temperature), usable
    )["s"]
    line("cosine", cosine[usable])


if __name__ == "__main__":
    main()
