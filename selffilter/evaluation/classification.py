"""What zero-shot classification is measured by. Pure functions of similarities and labels.

Ties count against the model: one that gives everything the same similarity knows nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Metrics = dict[str, float | None]
"""Name → value in [0, 1]; None where the metric is not defined."""


def place_of_own_class(logits_BC: Tensor, class_B: Tensor) -> tuple[Tensor, Tensor]:
    """Say where the right class stands, and which class is predicted.

    Args:
        logits_BC: (B, C) similarity with each class.
        class_B: (B,) int64, the right class, in [0, C).

    Returns:
        rank_B: (B,) int64, how many other classes are at least as similar: 0 is a hit.
        predicted_B: (B,) int64, the most similar class; of a tie, one that is wrong.
    """
    own_B1 = logits_BC.gather(1, class_B[:, None])
    # Not `>=`: what is not a number must not look like a hit.
    rank_B = (~(logits_BC < own_B1)).sum(dim=1) - 1
    best_other_B = logits_BC.scatter(1, class_B[:, None], -torch.inf).argmax(dim=1)
    return rank_B, torch.where(rank_B == 0, class_B, best_other_B)


def classification_metrics(
    rank_N: Tensor,
    predicted_N: Tensor,
    class_N: Tensor,
    classes: int,
    groups: Mapping[str, Tensor] | None = None,
) -> Metrics:
    """Return the metrics of a set.

    ``acc1`` and ``acc5`` are shares of samples (``acc5`` is undefined below five classes, as in
    CLIP_benchmark). ``mean_per_class_recall``, ``macro_f1`` and ``worst_class_recall`` are over the
    classes that occur among the labels (as scikit-learn's balanced accuracy, and WILDS' F1, have
    it). ``mean_reciprocal_rank`` is the mean of 1 / (1 + rank): it also moves where `acc1` does
    not yet. Each kind of group gives ``worst_NAME_acc1`` and ``worst_NAME_acc5``: the lowest share
    over the groups that occur.

    Args:
        rank_N: (N,) int64; see `place_of_own_class`.
        predicted_N: (N,) int64.
        class_N: (N,) int64.
        classes: C, the number of classes.
        groups: Name → (N,) int64, the group of each sample.
    """
    hit1_N = (rank_N < 1).double()
    hit5_N = (rank_N < 5).double() if classes >= 5 else None
    samples_C = torch.bincount(class_N, minlength=classes).double()
    hits_C = torch.bincount(class_N, weights=hit1_N, minlength=classes)
    predicted_C = torch.bincount(predicted_N, minlength=classes).double()
    occurs_C = samples_C > 0
    recall_C = (hits_C / samples_C)[occurs_C]
    f1_C = (2 * hits_C / (samples_C + predicted_C))[occurs_C]
    metrics: Metrics = {
        "acc1": float(hit1_N.mean()),
        "acc5": None if hit5_N is None else float(hit5_N.mean()),
        "mean_per_class_recall": float(recall_C.mean()),
        "macro_f1": float(f1_C.mean()),
        "worst_class_recall": float(recall_C.min()),
        "mean_reciprocal_rank": float((1 / (1 + rank_N.double())).mean()),
    }
    for name, group_N in (groups or {}).items():
        metrics[f"worst_{name}_acc1"] = _worst(hit1_N, group_N)
        metrics[f"worst_{name}_acc5"] = None if hit5_N is None else _worst(hit5_N, group_N)
    return metrics


def _worst(hit_N: Tensor, group_N: Tensor) -> float:
    _, place_N, size_G = group_N.unique(return_inverse=True, return_counts=True)
    hits_G = torch.bincount(place_N, weights=hit_N)
    return float((hits_G / size_G).min())
