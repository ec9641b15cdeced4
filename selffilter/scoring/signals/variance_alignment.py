"""The Variance Alignment Score, VAS (arXiv 2402.02055), as released: uncentred.

``image``: ``u_iᵀ Σ u_i`` with ``Σ = (1/M) Σ_t u_t u_tᵀ``; ``text``: the same of captions;
``cross``: ``u_iᵀ Σ v_i`` with ``Σ = (1/M) Σ_t u_t v_tᵀ``. t runs over a target
set, or over the candidate pool itself (the paper's *traindata*). In a pass over the pool the seeded
bank stands for the pool.

``NormSim_2² = M · VAS`` of images.
"""

from __future__ import annotations

from torch import Tensor

from selffilter.scoring.moments import Kind
from selffilter.scoring.signals.facts import Facts, Pairs, Target
from selffilter.scoring.signals.signal import Need


class VarianceAlignment:
    """VAS of images, of texts, or of the one with the other.

    Args:
        kind: ``image``, ``text`` or ``cross``.
        traindata: Align with the pool (`Facts.moments`) instead of a target set.
    """

    def __init__(self, kind: Kind, *, traindata: bool = False) -> None:
        self._kind: Kind = kind
        self._traindata = traindata
        captions: set[Need] = set() if kind == "image" else {"target_captions"}
        of_target: set[Need] = {"target", *captions}
        self.needs: frozenset[Need] = frozenset({"moments"} if traindata else of_target)

    def __call__(self, pairs: Pairs, facts: Facts) -> Tensor:
        """Return the score of each pair, (B,) float32."""
        image_BD, text_BD = pairs.image_features_BD, pairs.text_features_BD
        moments = facts.moments if self._traindata else target_of(facts).moments
        if moments is None:
            raise ValueError("this signal needs the second moments of the pool")
        left_BD = text_BD if self._kind == "text" else image_BD
        right_BD = image_BD if self._kind == "image" else text_BD
        return moments.quadratic(left_BD, right_BD, self._kind)


def target_of(facts: Facts) -> Target:
    """Return the target set.

    Raises:
        ValueError: If there is none.
    """
    if facts.target is None:
        raise ValueError("this signal needs a target set")
    return facts.target
