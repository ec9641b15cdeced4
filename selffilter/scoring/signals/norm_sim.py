"""NormSim (arXiv 2405.19547): how near an image is to a target set's images.

``NormSim_p(i) = ‖T f_i‖_p`` with T (M×D) the target's unit-norm image features and f_i the pair's:
``p = 2``: ``(Σ_t (f_t·f_i)²)^½``; ``p = ∞``: ``max_t |f_t·f_i|``. Captions are not looked at.

p = 2 is computed from the target's second moments, ``(M · f_iᵀ Σ f_i)^½``, the same number at a
cost that does not grow with M.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from selffilter.scoring.signals.facts import Facts, Pairs
from selffilter.scoring.signals.signal import Need
from selffilter.scoring.signals.variance_alignment import target_of

_LOGITS_AT_ONCE = 2**25


class NormSim:
    """NormSim_2 or NormSim_∞ against `Facts.target`.

    Args:
        p: 2 or ``math.inf``.
    """

    needs: frozenset[Need] = frozenset({"target"})

    def __init__(self, p: float) -> None:
        if p not in (2, math.inf):
            raise ValueError(f"NormSim is defined for p = 2 and p = inf, not {p}")
        self._p = p

    def __call__(self, pairs: Pairs, facts: Facts) -> Tensor:
        """Return the norm for each pair's image, (B,) float32, at least 0."""
        target, image_BD = target_of(facts), pairs.image_features_BD
        if self._p == 2:
            moments = target.moments
            # Not below 0 by rounding, where an image is orthogonal to all targets.
            square_B = moments.count * moments.quadratic(image_BD, image_BD, "image")
            return square_B.clamp(min=0).sqrt()
        if target.image_features_MD is None:
            raise ValueError("norm_sim_inf needs the target's features, not its moments alone")
        nearest_B = image_BD.new_zeros(len(image_BD))
        targets_at_once = max(1, _LOGITS_AT_ONCE // max(1, len(image_BD)))
        for part_mD in target.image_features_MD.split(targets_at_once):
            part_B = (image_BD @ part_mD.T).abs().amax(dim=1)
            nearest_B = torch.maximum(nearest_B, part_B)
        return nearest_B
