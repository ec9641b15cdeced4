"""The generated data have the moments that the model states."""

import numpy as np
import pytest

from selffilter.theory import BimodalModel, Pool


def test_moments_are_those_of_the_model():
    model = BimodalModel(6, 5, 2, image_gamma=4.0, text_gamma=2.0, clean_share=0.25)
    x, y, clean = Pool(model, 200_000, seed=1).all()
    u, v = model.image_basis_dr, model.text_basis_er
    assert abs(clean.mean() - 0.25) < 0.005
    np.testing.assert_allclose(x.T @ x / len(x), u @ u.T + np.eye(6) / 4, atol=0.02)
    np.testing.assert_allclose(y.T @ y / len(y), v @ v.T + np.eye(5) / 2, atol=0.02)
    np.testing.assert_allclose(x.T @ y / len(x), 0.25 * u @ v.T, atol=0.02)
    np.testing.assert_allclose(x[clean].T @ y[clean] / clean.sum(), u @ v.T, atol=0.04)
    np.testing.assert_allclose(x[~clean].T @ y[~clean] / (~clean).sum(), 0, atol=0.02)


def test_bases_are_orthonormal():
    model = BimodalModel(9, 7, 3, basis_seed=5)
    np.testing.assert_allclose(model.image_basis_dr.T @ model.image_basis_dr, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(model.text_basis_er.T @ model.text_basis_er, np.eye(3), atol=1e-12)


def test_a_pool_repeats_itself_and_seeds_differ(monkeypatch):
    model = BimodalModel()
    cached = Pool(model, 1000, seed=3, chunk=128)
    once, again = cached.all(), cached.all()
    np.testing.assert_array_equal(once.x_nd, again.x_nd)
    monkeypatch.setattr("selffilter.theory.model.CACHE_BYTES", 0)
    drawn = Pool(model, 1000, seed=3, chunk=128)
    assert drawn._cache is None
    for _ in range(2):
        for kept, fresh in zip(once, drawn.all(), strict=True):
            np.testing.assert_array_equal(kept, fresh)
    assert not np.array_equal(once.x_nd, Pool(model, 1000, seed=4, chunk=128).all().x_nd)


def test_an_abandoned_pass_leaves_the_pool_whole():
    pool = Pool(BimodalModel(), 1000, seed=3, chunk=128)
    next(iter(pool.chunks()))
    assert len(pool.all().x_nd) == 1000


@pytest.mark.parametrize(
    "settings",
    [{"rank": 9}, {"rank": 0}, {"clean_share": 1.2}, {"image_gamma": 0.0}, {"text_gamma": -1.0}],
)
def test_impossible_models_are_refused_with_the_value(settings):
    with pytest.raises(ValueError, match=str(next(iter(settings.values())))):
        BimodalModel(**settings)


def test_a_pool_of_one_pair_is_refused():
    with pytest.raises(ValueError, match="n=1"):
        Pool(BimodalModel(), 1, seed=0)
