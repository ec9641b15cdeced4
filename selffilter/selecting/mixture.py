"""A mixture of two Gaussians on the scores: how much of the pool is clean, and from which score on.

The noisy-correspondence line (Arazo et al., arXiv 1904.11238; DivideMix, arXiv 2002.07394; Huang et
al., *Learning with Noisy Correspondence*, NeurIPS 2021) fits two components to the losses of all
samples and takes the posterior of the better one for the probability of being clean.

Two things to know before one steers by it. Scores are not two Gaussians: where the components lie
close (`Mixture.separation`), the shares are owed to that assumption and not to the scores. And a
model scores the rows it trains on higher than others: from the second round on the upper component
is also made of what was selected before, so that a share that follows it follows itself. Rows that
are never trained on (the probe) have no part in the second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selffilter.selecting.histograms import Histogram, Scores, Which, histogram, score_range
from selffilter.selecting.scratch import chunks

BINS = 4096
MINIMUM_ROWS = 10
LEAST_SEPARATION = 1.0
"""Ashman's D below which there is no upper component to speak of: a narrow and a wide Gaussian with
about the same mean describe heavy tails, or a heap of like rows, and not two kinds of them."""

# The least sd of a component, in sd of all scores. Without one, rows that tie (an image that stands
# a hundred times in a pool) make a component of their own, and a likelihood without bound.
_NARROWEST = 0.1
_ZOOMS = 4
_STEPS = 4000
_TOLERANCE = 1e-9  # of the mean log-likelihood, nats
_STARTS = (0.2, 0.5, 0.8)  # share of the rows that the lower component begins with


@dataclass(frozen=True)
class Mixture:
    """Two Gaussians; of each pair of numbers the first is the lower component's.

    Attributes:
        weights: Shares of the rows, adding up to 1.
        means: Ascending, in units of the score.
        sds: Standard deviations.
        log_likelihood: Of all rows under the mixture, nats (densities: in units of 1/score).
        log_likelihood_of_one: Of all rows under a single Gaussian.
        rows: How many scores it was fitted to.
    """

    weights: tuple[float, float]
    means: tuple[float, float]
    sds: tuple[float, float]
    log_likelihood: float
    log_likelihood_of_one: float
    rows: int

    @property
    def clean_share(self) -> float:
        """The share of rows that the upper component is made of."""
        return self.weights[1]

    @property
    def bic_difference(self) -> float:
        """BIC of one Gaussian − BIC of the mixture; above 0: evidence for two.

        ``2·(log-likelihood₂ − log-likelihood₁) − 3·ln(rows)``: the mixture has three parameters
        more. With many rows anything that is not exactly Gaussian counts as evidence.
        """
        gain = self.log_likelihood - self.log_likelihood_of_one
        return 2 * gain - 3 * math.log(self.rows)

    @property
    def separation(self) -> float:
        """Ashman's D, ``√2·(μ₁ − μ₀)/√(σ₀² + σ₁²)``: below 2 the components are one hill.

        Ashman, Bird & Zepf (1994). The lower it is, the more the shares are owed to the assumption
        of Gaussians and not to the scores.
        """
        distance = self.means[1] - self.means[0]
        return math.sqrt(2) * distance / math.hypot(*self.sds)

    def posterior(self, scores_N: Scores) -> NDArray[np.float32]:
        """Return the probability of being of the upper component: clean.

        Where the components are not equally wide, the wider one wins again in *both* far tails: the
        very lowest scores would be clean if the upper one is wider, and the very highest would not
        if it is narrower. Here a better score is never the worse one: beyond its turning point,
        which lies below the lower mean or above the upper one, the posterior stays where it is.

        Args:
            scores_N: (N,).

        Returns:
            (N,) float32 in [0, 1], not falling with the score; NaN where the score is.
        """
        square, linear, constant = self._log_odds()
        turning = -linear / (2 * square) if square else 0.0
        found_N = np.empty(len(scores_N), np.float32)
        for part in chunks(len(scores_N)):
            z_n = scores_N[part].astype(np.float64) - self.means[0]
            if square > 0:
                np.maximum(z_n, turning, out=z_n)
            elif square < 0:
                np.minimum(z_n, turning, out=z_n)
            log_odds_n = (square * z_n + linear) * z_n + constant
            # The logistic function without overflow on either side.
            with np.errstate(invalid="ignore"):  # NaN where there is no score
                found_N[part] = np.exp(-np.logaddexp(0, -log_odds_n))
        return found_N

    def lowest_score(self, probability: float) -> float:
        """Return the score from which on rows are clean with at least this probability.

        That is the lowest score above the lower mean whose `posterior` is as high. Rows are to be
        cut by this score and not by the two Gaussians' own posterior, which need not rise with the
        score everywhere.

        Args:
            probability: Between 0 and 1, both excluded.

        Returns:
            A score, the lower mean or above; infinity if no score is that surely clean.

        Raises:
            ValueError: If the probability is none.
        """
        if not 0 < probability < 1:
            raise ValueError(f"a probability of {probability} is not between 0 and 1")
        square, linear, constant = self._log_odds()
        constant -= math.log(probability / (1 - probability))
        if constant >= 0:
            return self.means[0]
        under = linear * linear - 4 * square * constant
        if under < 0 or linear + math.sqrt(under) == 0:
            return math.inf
        # square·z² + linear·z + constant = 0, z > 0: of two roots the lower, in the form that does
        # not cancel where `square` is small.
        return self.means[0] - 2 * constant / (linear + math.sqrt(under))

    def _log_odds(self) -> tuple[float, float, float]:
        """Return a, b, c: ``a·z² + b·z + c = ln(w₁N(μ₁,σ₁)/w₀N(μ₀,σ₀))`` for ``z = score − μ₀``."""
        (w0, w1), (s0, s1), distance = self.weights, self.sds, self.means[1] - self.means[0]
        square = 0.5 / s0**2 - 0.5 / s1**2
        linear = distance / s1**2
        constant = math.log(w1 * s0) - math.log(w0 * s1) - 0.5 * (distance / s1) ** 2
        return square, linear, constant


def fit_mixture(scores_N: Scores, which: Which | None = None) -> Mixture | None:
    """Fit by expectation-maximisation, to a fine histogram: 10⁸ rows cost little more than reading.

    The same scores give the same mixture, in whatever order they stand.

    Args:
        scores_N: (N,); NaN and infinities are left out.
        which: Which scores count (those of the base, say); None: all.

    Returns:
        None if there is no mixture to be had: fewer than 10 scores; scores that are all equal; a
        single Gaussian that describes them as well (`Mixture.bic_difference` not above 0); or two
        of which none is the upper one (`Mixture.separation` below `LEAST_SEPARATION`).
    """
    found = score_range(scores_N, which)
    if found is None or not found[0] < found[1]:
        return None
    seen = histogram(scores_N, *found, BINS, which)
    # A few far outliers would leave everything else in a handful of bins. Then look closer, and let
    # the bins at the ends hold the outliers, as long as that tells more scores apart.
    for _ in range(_ZOOMS):
        low, high = seen.quantile(0.0005) - seen.width, seen.quantile(0.9995)
        if high - low > (seen.high - seen.low) / 8:
            break
        closer = histogram(scores_N, low, high, BINS, which)
        if np.count_nonzero(closer.counts_B) <= np.count_nonzero(seen.counts_B):
            break
        seen = closer
    return fit_histogram(seen)


def fit_histogram(seen: Histogram) -> Mixture | None:
    """Fit to scores that are counted already, as `fit_mixture` does."""
    filled_B = seen.counts_B > 0
    x_B, count_B = seen.centres_B[filled_B], seen.counts_B[filled_B].astype(np.float64)
    rows = float(count_B.sum())
    if rows < MINIMUM_ROWS or len(x_B) < 2:
        return None
    mean = float(count_B @ x_B / rows)
    sd = math.sqrt(float(count_B @ (x_B - mean) ** 2 / rows))
    share_B, z_B = count_B / rows, (x_B - mean) / sd
    fits = [_em(z_B, share_B, _halves(z_B, share_B, start)) for start in _STARTS]
    best, fitted = max(fits, key=lambda fit: fit[0])
    best_one = -0.5 * (math.log(2 * math.pi) + 1)
    if fitted[1, 0] > fitted[1, 1]:
        fitted = fitted[:, ::-1]
    weights, means, sds = fitted
    mixture = Mixture(
        weights=_pair(weights),
        means=_pair(mean + sd * means),
        sds=_pair(sd * sds),
        log_likelihood=rows * (best - math.log(sd)),
        log_likelihood_of_one=rows * (best_one - math.log(sd)),
        rows=int(rows),
    )
    two = mixture.bic_difference > 0 and mixture.separation >= LEAST_SEPARATION
    return mixture if two else None


def _pair(values_2: NDArray[np.float64]) -> tuple[float, float]:
    return float(values_2[0]), float(values_2[1])


def _halves(
    z_B: NDArray[np.float64], share_B: NDArray[np.float64], lower: float
) -> NDArray[np.float64]:
    """Begin with the lowest rows as one component and the rest as the other, (3, 2)."""
    first_B = np.cumsum(share_B) <= lower
    first_B[0], first_B[-1] = True, False
    responsibility_2B = np.stack([first_B, ~first_B]).astype(np.float64)
    return _maximised(z_B, share_B, responsibility_2B)


def _em(
    z_B: NDArray[np.float64], share_B: NDArray[np.float64], fitted: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Return the mean log-likelihood and the weights, means and sds, (3, 2)."""
    before = -math.inf
    for _ in range(_STEPS):
        weights, means, sds = fitted
        z_2B = (z_B - means[:, None]) / sds[:, None]
        log_2B = np.log(weights / sds)[:, None] - 0.5 * (z_2B**2 + math.log(2 * math.pi))
        log_B = np.logaddexp(log_2B[0], log_2B[1])
        now = float(share_B @ log_B)
        if now - before < _TOLERANCE:
            break
        before = now
        fitted = _maximised(z_B, share_B, np.exp(log_2B - log_B))
    return now, fitted


def _maximised(
    z_B: NDArray[np.float64],
    share_B: NDArray[np.float64],
    responsibility_2B: NDArray[np.float64],
) -> NDArray[np.float64]:
    weighed_2B = responsibility_2B * share_B
    weights = np.maximum(weighed_2B.sum(axis=1), 1e-12)
    means = weighed_2B @ z_B / weights
    variances = (weighed_2B * (z_B - means[:, None]) ** 2).sum(axis=1) / weights
    return np.stack([weights, means, np.maximum(np.sqrt(variances), _NARROWEST)])
