"""Where the truth is known: what a selection is worth, and what a fitted probability is.

Leaves ``selection/about/calibration.parquet`` where two Gaussians can be told apart in the scores,
whether or not rows are kept by them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selffilter.evaluation.truth import Truth
from selffilter.selecting.calibration import reliability
from selffilter.selecting.choice import Choice
from selffilter.selecting.mixture import fit_mixture
from selffilter.stages.context import Summary
from selffilter.tables import CALIBRATION, write_table


def against_truth(
    truth: Truth,
    base_N: NDArray[np.bool_],
    scores_N: NDArray[np.float32],
    choice: Choice,
    folder: Path,
) -> Summary:
    """Hold a selection, and the mixture's posterior, against the truth.

    Args:
        truth: The truth.
        base_N: What was selected from.
        scores_N: The scores themselves, also where rows are ranked by merit.
        choice: What is selected.
        folder: Where the selection lies.

    Returns:
        For the stage's summary; ``expected_calibration_error`` only where there is a posterior.
    """
    base = np.flatnonzero(base_N)
    summary: Summary = {
        "precision": truth.precision(choice.confident),
        "recall": truth.recall(choice.confident, base),
        "selected_clean_share": truth.precision(choice.rows),
        "auc": truth.auc(base, choice.ranked_by_N[base]),
    }
    mixture = choice.size.mixture or fit_mixture(scores_N, base_N)
    if mixture is not None:
        label_n = truth.labels(base)
        known_n = label_n >= 0
        posterior_n = mixture.posterior(scores_N[base[known_n]])
        found = reliability(posterior_n, label_n[known_n] == 1)
        if found.rows_B.any():
            write_table(folder / CALIBRATION, found.table())
            summary["expected_calibration_error"] = found.expected_calibration_error
    return summary
