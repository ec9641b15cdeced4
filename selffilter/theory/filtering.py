"""Scores, filters, and the teacher-student algorithm of arXiv 2512.14230."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from selffilter.theory.covariance import CrossCovariance
from selffilter.theory.model import Array, Mask, Pool
from selffilter.theory.solution import LinearClip, solve

Signal = Callable[[Array, Array], Array]


def inner_product(u_nr: Array, v_nr: Array) -> Array:
    """``<G x, H y>``: the paper's score (Algorithm 1), (n,)."""
    return np.asarray(np.einsum("nr,nr->n", u_nr, v_nr))


def cosine(u_nr: Array, v_nr: Array) -> Array:
    """``<G x, H y> / (|G x| |H y|)``: the CLIP score, (n,), -1 to 1."""
    norms_n = np.linalg.norm(u_nr, axis=1) * np.linalg.norm(v_nr, axis=1)
    return np.asarray(inner_product(u_nr, v_nr) / np.maximum(norms_n, 1e-300))


def regression(u_nr: Array, v_nr: Array) -> Array:
    """``2 <G x, H y> / (|G x|^2 + |H y|^2)``, (n,), -1 to 1 [ours].

    The slope of one embedding on the other: the quantity by which pairs should be ranked according
    to the first-order theory (`first_order.py`), made symmetric in the modalities.
    """
    squares_n = np.sum(u_nr**2, axis=1) + np.sum(v_nr**2, axis=1)
    return np.asarray(2 * inner_product(u_nr, v_nr) / np.maximum(squares_n, 1e-300))


SIGNALS: dict[str, Signal] = {
    "inner product": inner_product,
    "cosine": cosine,
    "regression": regression,
}


def score_pool(pool: Pool, teacher: LinearClip, signal: str = "inner product") -> Array:
    """Score every pair of a pool, (n,); higher is more likely clean.

    Raises:
        ValueError: the signal is not one of `SIGNALS`.
    """
    if signal not in SIGNALS:
        raise ValueError(f"signal={signal!r} is not known; give one of {', '.join(SIGNALS)}")
    score = SIGNALS[signal]
    return np.concatenate([score(*teacher.embed(x, y)) for x, y, _ in pool.chunks()])


def keep_above(scores_n: Array, threshold: float) -> Mask:
    """Keep ``score > threshold`` (Algorithm 1's filter), (n,)."""
    return np.asarray(scores_n > threshold)


def keep_top(scores_n: Array, fraction: float) -> Mask:
    """Keep the best ``fraction`` of the rows, (n,); exactly round(fraction * n) of them.

    Raises:
        ValueError: the fraction is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"keep fraction {fraction} must be above 0 and at most 1")
    count = max(1, round(fraction * scores_n.size))
    kept_n = np.zeros(scores_n.size, dtype=bool)
    kept_n[np.argpartition(scores_n, scores_n.size - count)[scores_n.size - count :]] = True
    return kept_n


def fit(pool: Pool, keep_n: Mask | None = None, rho: float = 1.0) -> LinearClip:
    """Train on the pool, or on the rows marked in ``keep_n`` (n,), in one pass of chunks."""
    if keep_n is not None and keep_n.size != pool.n:
        raise ValueError(f"keep_n has {keep_n.size} rows, the pool {pool.n}: give one flag a row")
    model = pool.model
    covariance = CrossCovariance(model.image_dim, model.text_dim)
    start = 0
    for x_nd, y_ne, _ in pool.chunks():
        if keep_n is None:
            covariance.add(x_nd, y_ne)
        else:
            kept_n = keep_n[start : start + len(x_nd)]
            covariance.add(x_nd[kept_n], y_ne[kept_n])
        start += len(x_nd)
    return solve(covariance.value(), model.rank, rho)


def fit_nested(pool: Pool, scores_n: Array, fractions: Sequence[float]) -> list[LinearClip]:
    """Train on the best ``f`` of the rows for every ``f`` in ascending ``fractions``, in one pass.

    The kept sets are nested, so each adds only its own rows to the covariance: a whole curve of
    error against kept fraction costs one fit. Holds the pool in memory.
    """
    x_nd, y_ne, _ = pool.all()
    order_n = np.argsort(-scores_n, kind="stable")
    covariance = CrossCovariance(x_nd.shape[1], y_ne.shape[1])
    learned, start = [], 0
    for fraction in fractions:
        stop = max(1, round(fraction * pool.n))
        rows = order_n[start:stop]
        covariance.add(x_nd[rows], y_ne[rows])
        learned.append(solve(covariance.value(), pool.model.rank))
        start = max(start, stop)
    return learned


def oracle_fit(pool: Pool) -> LinearClip:
    """Train on the truly clean rows alone."""
    return fit(pool, np.concatenate([pairs.clean_n for pairs in pool.chunks()]))


def teacher_student(
    pool: Pool,
    *,
    keep_fraction: float | None = None,
    threshold: float | None = None,
    split: bool,
    signal: str = "inner product",
) -> LinearClip:
    """Train a teacher, filter by its scores, train a student on what is kept.

    Source: arXiv 2512.14230, Algorithm 1. As printed there the teacher has one half of the pool
    and filters the other (``split=True``); their table of kept fractions agrees with
    ``split=False``, where both use all n pairs.

    Args:
        pool: the data.
        keep_fraction: share kept *of the rows that are filtered*, (0, 1]; or
        threshold: keep scores above this value (theta). Give exactly one of the two.
        split: teacher on the first half, filter on the second.
        signal: one of `SIGNALS`.

    Raises:
        ValueError: neither or both of ``keep_fraction`` and ``threshold`` are given.
    """
    if (keep_fraction is None) == (threshold is None):
        raise ValueError(
            f"keep_fraction={keep_fraction} and threshold={threshold}: give exactly one of the two"
        )
    candidate_n = np.ones(pool.n, dtype=bool)
    if split:
        candidate_n[: pool.n // 2] = False
    teacher = fit(pool, ~candidate_n if split else None)
    scores_n = score_pool(pool, teacher, signal)
    keep_n = np.zeros(pool.n, dtype=bool)
    if keep_fraction is not None:
        keep_n[candidate_n] = keep_top(scores_n[candidate_n], keep_fraction)
    elif threshold is not None:
        keep_n = candidate_n & keep_above(scores_n, threshold)
    return fit(pool, keep_n)
