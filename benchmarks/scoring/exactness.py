"""Every signal against its formula, densely and in float64: the largest absolute error.

    python benchmarks/scoring/exactness.py [--device cpu]

2,000 rows by default, a bank of 1,024 and a target of 1,500, width 512, at τ = 0.01. The spread is
the standard deviation of the scores themselves.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from synthetic import features, written

from selffilter.randomness import hash_rows
from selffilter.scoring.moments import SecondMoments
from selffilter.scoring.permutation import permuted_neg_clip_loss
from selffilter.scoring.ready import identities
from selffilter.scoring.signals.facts import Bank, Facts, Pairs, Target
from selffilter.scoring.signals.find import OURS, find_signal

TAU, REFERENCE_TAU, BANK, TARGETS = 0.01, 0.02, 1024, 1500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    image, text = next(features(args.rows, args.width, 0, args.rows))
    target_image, target_text = next(features(TARGETS, args.width, 1, TARGETS))
    reference_image, reference_text = next(features(args.rows, args.width, 2, args.rows))
    flipped = image.roll(1, 1)
    sides = (image, text, target_image, target_text, reference_image, reference_text, flipped)
    dense = reference(*(side.double().numpy() for side in sides))

    image, text, target_image, target_text, reference_image, reference_text, flipped = (
        side.to(args.device) for side in sides
    )
    row = torch.arange(args.rows, device=args.device)
    bank, others = slice(0, BANK), Pairs(reference_image, reference_text, row)
    facts = Facts(
        TAU,
        Bank(image[bank], text[bank], row[bank]),
        None,
        SecondMoments.of(image, text),
        Target(SecondMoments.of(target_image, target_text), target_image),
        Facts(REFERENCE_TAU, Bank(reference_image[bank], reference_text[bank], row[bank])),
    )
    pairs = Pairs(image, text, row, flipped, others)
    print(f"{'signal':<38} {'max abs error':>14} {'spread':>9}")
    for name in OURS:
        found = find_signal(name)(pairs, facts).double().cpu().numpy()
        line(name, found, dense[name])
    biased = Facts(0.1, logit_bias=-10.0)
    own = (sides[0].double() * sides[1].double()).sum(1) / 0.1 - 10
    found = find_signal("pair_probability")(pairs, biased).double().cpu().numpy()
    line("pair_probability (sigmoid model)", found, -np.log1p(np.exp(-own.numpy())))
    with tempfile.TemporaryDirectory() as folder:
        by_permutation(Path(folder), args.rows, args.width, args.device)


def reference(image, text, target_image, target_text, other_image, other_text, flipped):
    """Every signal from its formula, with all pairs of similarities in memory."""

    def log_sums(u, v, tau):
        """Over the bank and the pair itself; rows of the bank stand there as themselves alone."""
        own = (u * v).sum(1)
        s, t = u @ v[:BANK].T, v @ u[:BANK].T
        s[np.arange(BANK), np.arange(BANK)] = t[np.arange(BANK), np.arange(BANK)] = -np.inf
        terms = [np.column_stack([m, own]) / tau for m in (s, t)]
        top = [m.max(1, keepdims=True) for m in terms]
        sums = [np.log(np.exp(m - c).sum(1)) + c[:, 0] for m, c in zip(terms, top, strict=True)]
        count = np.isfinite(s).sum(1) + 1
        return own, sums[0], sums[1], count

    def log_probability(u, v, tau):
        own, to_text, to_image, _ = log_sums(u, v, tau)
        return own / tau - (to_text + to_image) / 2

    own, to_text, to_image, count = log_sums(image, text, TAU)
    similar = image @ target_image.T
    found = {
        "cosine": own,
        "neg_clip_loss": own - TAU / 2 * (to_text + to_image - 2 * np.log(count)),
        "pair_probability": log_probability(image, text, TAU),
        "norm_sim_2": np.sqrt((similar**2).sum(1)),
        "norm_sim_inf": np.abs(similar).max(1),
        "learnability": log_probability(other_image, other_text, REFERENCE_TAU)
        - log_probability(image, text, TAU),
        "flipped_cosine": (flipped * text).sum(1),
    }
    for suffix, a, b in (("", target_image, target_text), ("_traindata", image, text)):
        found[f"variance_alignment_image{suffix}"] = ((image @ a.T) ** 2).mean(1)
        found[f"variance_alignment_text{suffix}"] = ((text @ b.T) ** 2).mean(1)
        found[f"variance_alignment_cross{suffix}"] = ((image @ a.T) * (text @ b.T)).mean(1)
    return found


def by_permutation(folder: Path, rows: int, width: int, device: str) -> None:
    embeddings = written(folder, rows, width)
    image, text = (embeddings.read(side, 0, rows).double().numpy() for side in ("image", "text"))
    identity, size, draws = identities(embeddings), 600, 3
    others = np.zeros(rows)
    for draw in range(draws):
        order = np.argsort(hash_rows(identity, 0, "permutation", draw))
        for first in range(0, rows, size):
            batch = order[first : first + size]
            filled = np.append(batch, order[: size - len(batch)])
            logits = image[filled] @ text[filled].T / TAU
            for part in (logits, logits.T):
                top = part.max(1)
                sums = np.log(np.exp(part - top[:, None]).mean(1)) + top
                others[batch] += TAU / 2 * sums[: len(batch)]
    found = permuted_neg_clip_loss(
        embeddings, identity, np.ones(rows, bool),
        temperature=TAU, seed=0, batch_size=size, draws=draws, device=device,
    )  # fmt: skip
    line("neg_clip_loss (permutation form)", found, (image * text).sum(1) - others / draws)


def line(name, found, expected) -> None:
    print(f"{name:<38} {np.abs(found - expected).max():>14.1e} {expected.std():>9.3g}", flush=True)


if __name__ == "__main__":
    main()
