"""Filters against a dense textbook computation of the same algorithm."""

import numpy as np
import pytest

from selffilter.theory import (
    BimodalModel,
    LinearClip,
    Pool,
    fit,
    oracle_fit,
    representation_error,
    score_pool,
    teacher_student,
)
from selffilter.theory.filtering import fit_nested, keep_above, keep_top


def textbook_error(pool: Pool, kept_fraction: float, split: bool) -> float:
    """Algorithm 1 written down once more, densely, with numpy alone."""
    x, y, _ = pool.all()
    half = len(x) // 2
    teacher_rows = slice(0, half) if split else slice(None)
    pool_rows = slice(half, None) if split else slice(None)
    r = pool.model.rank

    def top(a, b):
        u, s, vt = np.linalg.svd(np.cov(a.T, b.T)[: a.shape[1], a.shape[1] :])
        return u[:, :r], s[:r], vt[:r].T

    u, s, v = top(x[teacher_rows], y[teacher_rows])
    x, y = x[pool_rows], y[pool_rows]
    scores = np.einsum("nd,de,ne->n", x, u @ np.diag(s) @ v.T, y)
    kept = np.argsort(-scores)[: round(kept_fraction * len(x))]
    u, _, v = top(x[kept], y[kept])
    sines = [
        np.sqrt(np.sum(1 - np.linalg.svd(a.T @ b, compute_uv=False) ** 2))
        for a, b in ((u, pool.model.image_basis_dr), (v, pool.model.text_basis_er))
    ]
    return max(sines)


@pytest.mark.parametrize("split", [False, True])
def test_teacher_student_is_algorithm_1(paper_pool, split):
    student = teacher_student(paper_pool, keep_fraction=0.3, split=split)
    error = representation_error(student, paper_pool.model)
    assert error == pytest.approx(textbook_error(paper_pool, 0.3, split), rel=1e-5)


def test_chunking_changes_nothing():
    model = BimodalModel(clean_share=0.2)
    small = Pool(model, 3000, 5, chunk=100)
    x, y, _ = small.all()
    whole = Pool(model, 3000, 5, chunk=100)
    from selffilter.theory.model import Pairs

    whole._cache = [Pairs(x, y, small.all().clean_n)]
    a = teacher_student(small, threshold=0.01, split=True)
    b = teacher_student(whole, threshold=0.01, split=True)
    np.testing.assert_allclose(
        a.image_encoder_rd.T @ a.text_encoder_re,
        b.image_encoder_rd.T @ b.text_encoder_re,
        atol=1e-12,
    )


def test_signals_are_what_their_names_say():
    model = BimodalModel(5, 4, 2)
    pool = Pool(model, 50, 0)
    x, y, _ = pool.all()
    rng = np.random.default_rng(0)
    teacher = LinearClip(rng.standard_normal((2, 5)), rng.standard_normal((2, 4)))
    for i in (0, 17, 49):
        u, v = teacher.image_encoder_rd @ x[i], teacher.text_encoder_re @ y[i]
        expected = {
            "inner product": u @ v,
            "cosine": u @ v / np.linalg.norm(u) / np.linalg.norm(v),
            "regression": 2 * (u @ v) / (u @ u + v @ v),
        }
        for signal, value in expected.items():
            assert score_pool(pool, teacher, signal)[i] == pytest.approx(value, rel=1e-12)


def test_keep_top_counts_exactly_and_keeps_the_best():
    scores = np.random.default_rng(0).standard_normal(1001)
    for fraction, count in ((0.3, 300), (1.0, 1001), (1e-9, 1)):
        kept = keep_top(scores, fraction)
        assert kept.sum() == count
        assert count == 1001 or scores[kept].min() > scores[~kept].max()
    assert keep_above(np.array([0.0, 1.0, -1.0]), 0.0).tolist() == [False, True, False]


def test_nested_fits_are_the_single_ones(paper_pool):
    scores = score_pool(paper_pool, fit(paper_pool))
    fractions = (0.1, 0.4, 1.0)
    for fraction, learned in zip(fractions, fit_nested(paper_pool, scores, fractions), strict=True):
        alone = fit(paper_pool, keep_top(scores, fraction))
        np.testing.assert_allclose(
            learned.image_encoder_rd.T @ learned.text_encoder_re,
            alone.image_encoder_rd.T @ alone.text_encoder_re,
            atol=1e-12,
        )


def test_a_filter_beats_no_filter_and_clean_rows_beat_both_at_large_eta():
    model = BimodalModel(clean_share=0.3)
    errors = np.array(
        [
            [
                representation_error(learned, model)
                for learned in (
                    fit(pool),
                    teacher_student(pool, keep_fraction=0.4, split=False),
                    oracle_fit(pool),
                )
            ]
            for pool in (Pool(model, 10_000, seed) for seed in range(8))
        ]
    ).mean(0)
    assert errors[1] < 0.7 * errors[0]
    assert errors[2] < 0.7 * errors[0]


def test_bad_arguments_are_refused(paper_pool):
    with pytest.raises(ValueError, match="exactly one"):
        teacher_student(paper_pool, split=False)
    with pytest.raises(ValueError, match="exactly one"):
        teacher_student(paper_pool, split=False, keep_fraction=0.1, threshold=0.0)
    with pytest.raises(ValueError, match="keep fraction 0"):
        keep_top(np.ones(3), 0)
    with pytest.raises(ValueError, match="'dot'"):
        score_pool(paper_pool, fit(paper_pool), "dot")
    with pytest.raises(ValueError, match="keep_n has 3 rows"):
        fit(paper_pool, np.ones(3, dtype=bool))
