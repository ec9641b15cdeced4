"""What any filter can achieve when its teacher already sees the latents [ours].

Write ``a = U^T x`` and ``b = V^T y`` for the projections of a pair on the true subspaces, and let
every pair have weight ``w(a, b)`` (a filter: 0 or 1). If ``w`` does not change under a common
rotation of a and b, then ``E[w a b^T] = m I`` with ``m = E[w <a, b>] / r``, and the noise outside
the image subspace, which no such weight depends on, adds ``U_perp^T S V`` with entries of variance
``E[w^2 b b^T] / (gamma n)``. First-order perturbation of the singular subspace gives

    error_image^2  =  (d - r) / (gamma n) * E[w^2 |b|^2] / m^2                              (1)

and the same for text with the roles exchanged. By Cauchy-Schwarz no weights do better than
``w = <a, b> / |b|^2``, whose error is

    floor_image^2  =  (d - r) / (gamma n) * r^2 / E[<a, b>^2 / |b|^2].                      (2)

For eta -> 0 this is ``r sqrt((d - r)(1 + ...)/(gamma n))``: it stays finite without a single clean
pair, since mismatched pairs whose latents happen to agree teach the subspaces just as well. That is
the flat regime of the paper. Valid while errors are small (first order in 1/sqrt(n)).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from selffilter.theory.filtering import SIGNALS, keep_top
from selffilter.theory.model import Array, BimodalModel


@dataclass(frozen=True)
class FirstOrder:
    """First-order errors of ideal filters on a model, by Monte Carlo over latents.

    Attributes:
        model: the data; isotropic latents and noise, as in the paper.
        draws: Monte Carlo pairs; the relative error of a result is about 2/sqrt(draws).
        seed: of the Monte Carlo draw.
    """

    model: BimodalModel
    draws: int = 400_000
    seed: int = 0

    @cached_property
    def projections(self) -> tuple[Array, Array]:
        """``a`` and ``b`` of the drawn pairs, each (draws, r)."""
        model, rng = self.model, np.random.default_rng(self.seed)
        # A fixed number of clean draws removes the noise of the share itself.
        clean_n = np.arange(self.draws) < round(model.clean_share * self.draws)
        a_nr, b_nr = model.latents(clean_n, rng)
        a_nr = a_nr + rng.standard_normal(a_nr.shape) / np.sqrt(model.image_gamma)
        b_nr = b_nr + rng.standard_normal(b_nr.shape) / np.sqrt(model.text_gamma)
        return a_nr, b_nr

    def unfiltered(self, n: int) -> float:
        """Error of training on all n pairs; equation (1) with w = 1, in closed form."""
        return self._closed_form(n, self.model.clean_share)

    def clean_only(self, n: int) -> float:
        """Error of training on the clean pairs alone: eta * n pairs without mismatches."""
        return self._closed_form(n * self.model.clean_share, 1.0)

    def kept_fraction(self, fraction: float, n: int, signal: str = "inner product") -> float:
        """Error of keeping the best ``fraction`` by a signal of the true projections."""
        return self.weighted(keep_top(self.scores(signal), fraction).astype(float), n)

    def kept_above(self, threshold: float, n: int, signal: str = "inner product") -> float:
        """Error of keeping pairs whose true-projection score exceeds ``threshold``."""
        return self.weighted((self.scores(signal) > threshold).astype(float), n)

    def scores(self, signal: str = "inner product") -> Array:
        """Scores of the drawn pairs under a perfect teacher, (draws,)."""
        return SIGNALS[signal](*self.projections)

    def weighted(self, weights_n: Array, n: int) -> float:
        """Equation (1) for weights of the drawn pairs (draws,): the larger modality's error."""
        a_nr, b_nr = self.projections
        slope = np.mean(weights_n * np.sum(a_nr * b_nr, axis=1)) / self.model.rank
        if not slope > 0:
            raise ValueError(
                f"the weighted correlation of the kept pairs is {slope:.3g}; equation (1) needs it "
                "positive: keep other pairs or raise clean_share"
            )
        squares = weights_n**2
        image = self._outside(True) * np.mean(squares * np.sum(b_nr**2, axis=1))
        text = self._outside(False) * np.mean(squares * np.sum(a_nr**2, axis=1))
        return float(np.sqrt(max(image, text) / n) / slope)

    def floor(self, n: int) -> float:
        """Equation (2): no filter and no weighting of the pairs can be better, to first order."""
        a_nr, b_nr = self.projections
        inner_n = np.sum(a_nr * b_nr, axis=1)
        image = self._outside(True) / np.mean(inner_n**2 / np.sum(b_nr**2, axis=1))
        text = self._outside(False) / np.mean(inner_n**2 / np.sum(a_nr**2, axis=1))
        return float(self.model.rank * np.sqrt(max(image, text) / n))

    def _outside(self, image: bool) -> float:
        """Noise variance outside the signal subspace: (dimensions - r) / gamma."""
        model = self.model
        if image:
            return (model.image_dim - model.rank) / model.image_gamma
        return (model.text_dim - model.rank) / model.text_gamma

    def _closed_form(self, n: float, clean_share: float) -> float:
        model = self.model
        image = self._outside(True) * model.rank * (1 + 1 / model.text_gamma)
        text = self._outside(False) * model.rank * (1 + 1 / model.image_gamma)
        return float(np.sqrt(max(image, text) / n) / clean_share)
