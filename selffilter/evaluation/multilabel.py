"""Several labels an image: mean average precision, as CLIP_benchmark has it."""

from __future__ import annotations

import torch
from torch import Tensor


def average_precision(score_NC: Tensor, label_NC: Tensor) -> Tensor:
    """Return the average precision of each class.

    That is the mean, over the images of the class, of the share of its images among all that are
    ranked at least as high. Of images with one score the wrong ones come first: ties count against
    the model. A class without an image has 0, as in CLIP_benchmark.

    Args:
        score_NC: (N, C) similarity of image and class.
        label_NC: (N, C) bool, whether the image is of the class.

    Returns:
        (C,) float64, in [0, 1].
    """
    wrong_first = label_NC.int().sort(dim=0, stable=True).indices
    by_score = (-score_NC.gather(0, wrong_first)).sort(dim=0, stable=True).indices
    label_NC = label_NC.gather(0, wrong_first.gather(0, by_score)).double()
    rank_N1 = torch.arange(1, len(label_NC) + 1, dtype=torch.float64)[:, None].to(label_NC.device)
    precision_NC = label_NC.cumsum(dim=0) / rank_N1
    return (precision_NC * label_NC).sum(dim=0) / label_NC.sum(dim=0).clamp(min=1)
