"""Which rows of some embeddings can be used, and why the others cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from selffilter.scoring.embeddings.embeddings import Embeddings, Side
from selffilter.scoring.embeddings.unusable import Unusable

_REASONS: dict[Side, tuple[Unusable, Unusable]] = {
    "image": (Unusable.image_not_finite, Unusable.image_zero),
    "text": (Unusable.text_not_finite, Unusable.text_zero),
}


def unusable_rows(
    embeddings: Embeddings,
    sides: Sequence[Side] | None = None,
    *,
    rows_at_once: int = 16_384,
    progress: Callable[[int], None] = lambda _: None,
) -> NDArray[np.uint8]:
    """Look at every row, once, front to back.

    Args:
        embeddings: Whose.
        sides: Which embeddings are wanted; all that there are by default.
        rows_at_once: In memory.
        progress: Called with the number of rows just looked at.

    Returns:
        (N,) uint8, `Unusable`; the first reason where there are several.
    """
    reason_N = np.zeros(embeddings.rows, np.uint8)
    for start in range(0, embeddings.rows, rows_at_once):
        reason_n = reason_N[start : start + rows_at_once]  # a view
        for side in embeddings.sides if sides is None else sides:
            not_finite, zero = _REASONS[side]
            raw_nD = embeddings.read_raw(side, start, start + rows_at_once).float()
            norm_n = torch.linalg.vector_norm(raw_nD, dim=-1).numpy()
            fresh_n = reason_n == Unusable.none
            reason_n[fresh_n & ~np.isfinite(norm_n)] = not_finite
            reason_n[fresh_n & (norm_n == 0)] = zero
        progress(len(reason_n))
    return reason_N
