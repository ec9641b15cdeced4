"""Each departure departs in what it names, and in nothing else."""

import numpy as np
import pytest

from selffilter.theory.departures import (
    CorrelatedMismatches,
    HeavyTails,
    PrivateNuisance,
    RotatedBases,
    SharedNuisance,
    UnequalSpectrum,
)
from selffilter.theory.model import BimodalModel, Pool

N = 100_000


def second_moments(model):
    x, y, clean = Pool(model, N, 0).all()
    return (
        x.T @ x / N,
        x[clean].T @ y[clean] / clean.sum(),
        x[~clean].T @ y[~clean] / (~clean).sum(),
    )


def truth(model):
    return model.image_basis_dr @ model.text_basis_er.T


def test_correlated_mismatches():
    model = CorrelatedMismatches(correlation=-0.4)
    _, clean, mismatched = second_moments(model)
    np.testing.assert_allclose(clean, truth(model), atol=0.03)
    np.testing.assert_allclose(mismatched, -0.4 * truth(model), atol=0.03)


def test_unequal_spectrum():
    model = UnequalSpectrum(latent_scales=(2.0, 1.0, 0.5, 0.25))
    _, clean, mismatched = second_moments(model)
    scaled = model.image_basis_dr @ np.diag([4, 1, 0.25, 0.0625]) @ model.text_basis_er.T
    np.testing.assert_allclose(clean, scaled, atol=0.08)
    np.testing.assert_allclose(mismatched, 0, atol=0.08)


def test_heavy_tails_have_unit_scale_and_large_fourth_moments():
    light, heavy = (Pool(HeavyTails(dof=dof), N, 0).all().x_nd for dof in (200.0, 5.0))
    kurtosis = [
        np.mean(np.sum(x**2, axis=1) ** 2) / np.mean(np.sum(x**2, axis=1)) ** 2
        for x in (light, heavy)
    ]
    assert np.mean(np.sum(heavy**2, axis=1)) == pytest.approx(4.0, rel=0.05)
    assert kurtosis[1] > 1.5 * kurtosis[0]


def test_shared_nuisance_is_in_mismatched_pairs_only_and_outside_the_signal():
    model = SharedNuisance(strength=1.5)
    _, clean, mismatched = second_moments(model)
    np.testing.assert_allclose(clean, truth(model), atol=0.03)
    assert np.linalg.svd(mismatched, compute_uv=False)[0] == pytest.approx(2.25, rel=0.03)
    inside = model.image_basis_dr.T @ mismatched @ model.text_basis_er
    np.testing.assert_allclose(inside, 0, atol=0.03)


def test_private_nuisance_is_not_in_the_cross_covariance():
    model = PrivateNuisance(strength=2.0)
    images, clean, mismatched = second_moments(model)
    assert np.linalg.eigvalsh(images)[-1] == pytest.approx(4.0, rel=0.03)
    np.testing.assert_allclose(clean, truth(model), atol=0.06)
    np.testing.assert_allclose(mismatched, 0, atol=0.06)


def test_turned_bases_have_the_angle_asked_for():
    turned = RotatedBases(angle=0.3)
    cosines = np.linalg.svd(
        turned.image_basis_dr.T @ BimodalModel().image_basis_dr, compute_uv=False
    )
    np.testing.assert_allclose(cosines, np.cos(0.3), atol=1e-12)


def test_impossible_departures_are_refused():
    for make, word in (
        (lambda: CorrelatedMismatches(correlation=1.5), "correlation=1.5"),
        (lambda: UnequalSpectrum(latent_scales=(1.0,)), "rank=4"),
        (lambda: HeavyTails(dof=2.0), "dof=2"),
        (lambda: RotatedBases(text_dim=7), "8 dimensions"),
    ):
        with pytest.raises(ValueError, match=word):
            make()
