"""How large the confident share is, by the rule that a config names.

===============  ================================================================================
``top``          the best `keep_fraction` of the scored base
``threshold``    rows whose score is at least `threshold`
``mixture``      rows that are of the better of two Gaussians with at least `clean_probability`
``clean_share``  the best so many as are clean at least, by what wrong pairs score: `clean_share`
``sample``       `keep_fraction` of the scored base is drawn by score, with repeats: see `repeats`
===============  ================================================================================

The three in the middle keep what they find, but never more than `keep_fraction`: so a plan made
before the run is an upper bound, and a fit gone wrong does not let everything in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selffilter.config import SelectConfig
from selffilter.selecting.clean_share import CleanShare
from selffilter.selecting.mixture import Mixture, fit_mixture
from selffilter.selecting.order import Ranking, descending_keys


@dataclass(frozen=True)
class Size:
    """Of a confident share.

    Attributes:
        rows: How many rows are to be kept; for ``sample``: samples.
        most: What `keep_fraction` allows.
        found: What the rule itself would keep.
        mixture: The fit, where one was made and there is one.
    """

    rows: int
    most: int
    found: int
    mixture: Mixture | None = None

    def facts(self) -> dict[str, Any]:
        """Return what a summary says of it."""
        facts: dict[str, Any] = {"confident_found": self.found, "confident_most": self.most}
        if self.mixture is not None:
            facts |= {
                "mixture_share": self.mixture.clean_share,
                "mixture_separation": self.mixture.separation,
            }
        return facts


def confident_size(
    settings: SelectConfig,
    round_: int,
    scores_N: NDArray[np.float32],
    scored_N: NDArray[np.bool_],
    ranking: Ranking,
    clean: CleanShare | None = None,
) -> Size:
    """Say how large the confident share of a round is.

    Args:
        settings: The rule and its numbers.
        round_: Which of the numbers, where there is one a round.
        scores_N: The scores themselves, also where rows are ranked by merit.
        scored_N: The scored base.
        ranking: Of what rows are ranked by, over the scored base.
        clean: What is known of the share of clean rows.

    Returns:
        The size; `most` where two Gaussians are asked for and cannot be told apart, or nothing is
        known of the share of clean rows.
    """
    scored = len(ranking)
    most = round(settings.keep(round_) * scored)
    mixture, found = None, most
    if settings.confident == "threshold":
        key = descending_keys(np.array([settings.threshold_of(round_)], np.float32))[0]
        found = int(np.searchsorted(ranking.keys_M, key, side="right"))
    elif settings.confident == "clean_share" and clean is not None:
        found = round(clean.share * scored)
    elif settings.confident == "mixture" and most:
        mixture = fit_mixture(scores_N, scored_N)
        if mixture is not None:
            lowest = mixture.lowest_score(settings.clean_probability)
            found = int((scores_N[scored_N] >= np.float32(lowest)).sum())
    return Size(min(found, most), most, found, mixture)
