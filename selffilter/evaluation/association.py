"""WinoGAViL: a cue, some images, and the question which of them people associated with it.

Bitton et al., 2022 (arXiv 2207.12576), measured as DataComp does: the model names as many images as
people did, and is scored by the Jaccard index of the two choices.
"""

from __future__ import annotations

import torch
from torch import Tensor

from selffilter.evaluation.classification import Metrics


def jaccard_index(similarity_K: Tensor, associated_K: Tensor) -> float:
    """Return |chosen ∩ associated| / |chosen ∪ associated| of one cue.

    Chosen are the most similar images, as many as are associated; of a tie, wrong ones first.

    Args:
        similarity_K: (K,) similarity of cue and candidates.
        associated_K: (K,) bool, at least one of them true.
    """
    chosen = int(associated_K.sum())
    wrong_first = associated_K.int().sort(stable=True).indices
    order = wrong_first[(-similarity_K[wrong_first]).sort(stable=True).indices]
    common = int(associated_K[order[:chosen]].sum())
    return common / (2 * chosen - common)


def association_metrics(jaccard_N: list[float], candidates_N: list[int]) -> Metrics:
    """Return the mean Jaccard index, over all cues and by the number of candidates.

    Args:
        jaccard_N: Of each cue.
        candidates_N: How many images each has.
    """
    jaccard = torch.tensor(jaccard_N, dtype=torch.float64)
    candidates = torch.tensor(candidates_N)
    return {
        "avg_jaccard_score": _mean(jaccard),
        "jaccard_score_5-6": _mean(jaccard[candidates <= 6]),
        "jaccard_score_10-12": _mean(jaccard[candidates >= 10]),
    }


def association_prompt(cue: str) -> str:
    """Return DataComp's prompt: the cue in lower case after its article."""
    cue = cue.lower()
    return f"An {cue}" if cue[:1] in tuple("aeiou") else f"A {cue}"


def _mean(value_N: Tensor) -> float | None:
    return float(value_N.mean()) if len(value_N) else None
