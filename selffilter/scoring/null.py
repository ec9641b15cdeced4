"""What signals say of pairs that are wrong for certain: images of the probe with others' captions.

The probe is never trained on, so the model can have remembered neither side. What the scores of
wrong pairs look like tells how many of the probe's own pairs can be wrong, and so how many of the
pool: see `selffilter.selecting.clean_share`.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selffilter.scoring.signals.facts import Facts, Pairs
from selffilter.scoring.signals.signal import Signal

PAIRS_A_ROW = 4
_SAME_CAPTION = 1 - 1e-6


def null_scores(
    pairs: Pairs, signals: dict[str, Signal], facts: Facts, batch_size: int
) -> dict[str, NDArray[np.float32]]:
    """Score each image with the captions of `PAIRS_A_ROW` other rows.

    Pairs whose caption is encoded as the image's own are left out: captions repeat, and a swap for
    the same caption is right.

    Args:
        pairs: Rows with one caption each, in an order that has nothing to do with their contents.
        signals: Column name → signal.
        facts: What they need.
        batch_size: Pairs scored together.

    Returns:
        Column name → (n,) float32.
    """
    rows, device = len(pairs.row_B), pairs.row_B.device
    found: dict[str, list[Tensor]] = {name: [torch.empty(0)] for name in signals}
    for shift in range(1, min(PAIRS_A_ROW, rows - 1) + 1):
        other = torch.arange(rows, device=device).roll(-shift)
        own_cosine = (pairs.text_features_BD * pairs.text_features_BD[other]).sum(dim=1)
        places = torch.nonzero(own_cosine < _SAME_CAPTION).flatten()
        for part in places.split(batch_size):
            wrong = pairs.crossed(part, other[part])
            for name, signal in signals.items():
                found[name].append(signal(wrong, facts).float().cpu())
    return {name: torch.cat(parts).numpy() for name, parts in found.items()}


def joined(parts: list[Pairs]) -> Pairs:
    """Return the pairs of several batches as one."""
    flipped = [part.flipped_image_features_BD for part in parts]
    reference = [part.reference for part in parts]
    return Pairs(
        torch.cat([part.image_features_BD for part in parts]),
        torch.cat([part.text_features_BD for part in parts]),
        torch.cat([part.row_B for part in parts]),
        None if flipped[0] is None else torch.cat([f for f in flipped if f is not None]),
        None if reference[0] is None else joined([r for r in reference if r is not None]),
    )
