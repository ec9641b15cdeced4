"""How a selection moves between rounds, and the memorisation cue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def jaccard(a: Rows, b: Rows) -> float:
    """Return |a ∩ b| / |a ∪ b| of two sets of rows; NaN if both are empty."""
    common = len(np.intersect1d(a, b, assume_unique=True))
    union = len(a) + len(b) - common
    return common / union if union else float("nan")


@dataclass(frozen=True)
class Cue:
    """The memorisation cue.

    Attributes:
        difference: Mean score of consumed − mean score of probe rows, in units of the score.
        in_sd: The same in standard deviations of the probe's scores.
        standard_error: Of `in_sd`.
        consumed: Rows on the one side …
        probe: … and on the other.
    """

    difference: float
    in_sd: float
    standard_error: float
    consumed: int
    probe: int


def memorisation_cue(
    consumed_scores: NDArray[np.float32], probe_scores: NDArray[np.float32]
) -> Cue:
    """Compare rows that were trained on with rows that never are, both outside the confident share.

    Only *diverse* rows may stand among the consumed: they were drawn, not chosen for their score.
    Leaving the confident out on both sides compares like with like.

    Args:
        consumed_scores: Scores of consumed diverse rows that are not confident.
        probe_scores: Scores of probe rows that would not be.
    """
    seen, never = (x.astype(np.float64) for x in (consumed_scores, probe_scores))
    if len(seen) < 2 or len(never) < 2:
        return Cue(float("nan"), float("nan"), float("nan"), len(seen), len(never))
    difference = float(seen.mean() - never.mean())
    sd = float(never.std(ddof=1)) or float("nan")
    error = float(np.sqrt(seen.var(ddof=1) / len(seen) + never.var(ddof=1) / len(never)))
    return Cue(difference, difference / sd, error / sd, len(seen), len(never))
