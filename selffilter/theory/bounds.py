"""The paper's error bounds, up to the constant that it leaves open."""

from __future__ import annotations

import numpy as np

from selffilter.theory.model import BimodalModel


def paper_unfiltered_rate(model: BimodalModel, n: int) -> float:
    """``(1/eta) * sqrt(r max(d,e) (1 + 1/gamma)(1 + 1/gamma') / n)``, constant set to 1.

    Source: arXiv 2512.14230, bound on the error without filtering; the paper shows a lower bound
    of the same form in eta and n. It does not vanish with the noise, so at gamma = 10^4 it lies
    far above what happens; its *slopes* are what it predicts.
    """
    return _common(model, n) / model.clean_share


def paper_filtered_rate(model: BimodalModel, n: int) -> float:
    """``min(1/sqrt(eta), r) * sqrt(r max(d,e) (1 + 1/gamma)(1 + 1/gamma') / n)``, constant 1.

    Source: arXiv 2512.14230, upper bound with teacher-based filtering: 1/sqrt(eta n) while eta is
    large, 1/sqrt(n) once eta < 1/r^2.
    """
    return float(min(model.clean_share**-0.5, model.rank)) * _common(model, n)


def _common(model: BimodalModel, n: int) -> float:
    noise = (1 + 1 / model.image_gamma) * (1 + 1 / model.text_gamma)
    return float(np.sqrt(model.rank * max(model.image_dim, model.text_dim) * noise / n))
