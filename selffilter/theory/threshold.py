"""Where to cut: thresholds read off the scores alone, without labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from selffilter.theory.model import Array


def half_mean_threshold(scores_n: Array) -> float:
    """Cut at half the mean of what is kept [ours].

    Maximises ``sum of kept scores / sqrt(number kept)``, the signal-to-noise ratio of the kept
    sum: equation (1) of `first_order.py` with all norms taken as equal. At the maximum a pair is
    worth its noise exactly if its score is above half the mean of the kept scores. The scores must
    be zero on average for mismatched pairs; for a CLIP, subtract the mean score of re-shuffled
    pairs first.

    Args:
        scores_n: scores, (n,); some must be positive.

    Returns:
        The threshold; keep scores above it.

    Raises:
        ValueError: no score is positive.
    """
    down_n = np.sort(scores_n)[::-1]
    if not down_n[0] > 0:
        raise ValueError(
            f"the highest score is {down_n[0]:.3g}: subtract the mean score of re-shuffled pairs, "
            "so that mismatched pairs score zero on average"
        )
    quality_n = np.cumsum(down_n) / np.sqrt(np.arange(1, down_n.size + 1))
    best = int(np.argmax(quality_n))
    return float(down_n[best + 1]) if best + 1 < down_n.size else float(down_n[-1]) - 1.0


def otsu_threshold(scores_n: Array) -> float:
    """Cut where the variance between the two sides is largest (Otsu 1979)."""
    up_n = np.sort(scores_n)
    total, n = up_n.sum(), up_n.size
    left_k = np.cumsum(up_n)[:-1]
    count_k = np.arange(1, n)
    between_k = (left_k - total * count_k / n) ** 2 / (count_k * (n - count_k))
    return float(up_n[int(np.argmax(between_k))])


def mixture_threshold(scores_n: Array, steps: int = 100) -> float:
    """Cut where a two-component Gaussian mixture is undecided.

    The rule of the noisy-correspondence literature: posterior of the upper component = 1/2.

    Args:
        scores_n: scores, (n,).
        steps: iterations of expectation maximisation.
    """
    # Ten thousand quantiles describe a one-dimensional distribution as well as all its scores.
    if scores_n.size > 10_000:
        scores_n = np.quantile(scores_n, np.linspace(0, 1, 10_000))
    low, high = np.quantile(scores_n, [0.25, 0.9])
    mean_k, share_k = np.array([low, high]), np.array([0.7, 0.3])
    var_k = np.full(2, scores_n.var() / 2)
    for _ in range(steps):
        log_nk = np.log(share_k / np.sqrt(var_k)) - (scores_n[:, None] - mean_k) ** 2 / (2 * var_k)
        post_nk = np.exp(log_nk - log_nk.max(1, keepdims=True))
        post_nk /= post_nk.sum(1, keepdims=True)
        count_k = post_nk.sum(0) + 1e-12
        share_k, mean_k = count_k / count_k.sum(), post_nk.T @ scores_n / count_k
        square_nk = (scores_n[:, None] - mean_k) ** 2
        var_k = np.maximum((post_nk * square_nk).sum(0) / count_k, 1e-6 * scores_n.var())
    upper_n = post_nk[:, int(np.argmax(mean_k))] > 0.5
    # The wider component also claims the far lower tail; the cut is the lowest score above the
    # lower component's mean that the upper component claims.
    upper_n &= scores_n > mean_k.min()
    return float(scores_n[upper_n].min()) if upper_n.any() else float(scores_n.max())


def clean_share_threshold(scores_n: Array) -> float:
    """Keep as many pairs as are estimated to be clean (`estimate_clean_share`)."""
    share = max(estimate_clean_share(scores_n), 1.0 / scores_n.size)
    return float(np.quantile(scores_n, 1 - share))


def zero_threshold(scores_n: Array) -> float:
    """Keep every positive score: the theta = 0 of the paper's analysis."""
    return 0.0


def estimate_clean_share(scores_n: Array) -> float:
    """Estimate eta by the mirror argument: ``1 - 2 * (share of negative scores)`` [ours].

    Mismatched pairs score symmetrically around zero, and clean pairs almost never below it when
    the noise is small, so every negative score has a mismatched twin above zero. With noisy views
    clean pairs fall below zero too, and the estimate is a lower bound. Clipped to [0, 1].
    """
    return float(np.clip(1 - 2 * np.mean(scores_n < 0), 0.0, 1.0))


THRESHOLD_RULES: dict[str, Callable[[Array], float]] = {
    "half mean": half_mean_threshold,
    "zero": zero_threshold,
    "clean share": clean_share_threshold,
    "mixture": mixture_threshold,
    "Otsu": otsu_threshold,
}
