"""The closed form minimises the loss; the error is the textbook's."""

import numpy as np
import pytest

from selffilter.theory import BimodalModel, LinearClip, representation_error, sin_theta, solve


def test_closed_form_is_a_minimum_that_gradient_descent_also_finds():
    rng = np.random.default_rng(1)
    covariance, rho = rng.standard_normal((6, 5)), 0.7
    best = solve(covariance, 2, rho)
    loss = best.contrastive_loss(covariance, rho)
    g, h = 0.1 * rng.standard_normal((2, 6)), 0.1 * rng.standard_normal((2, 5))
    for _ in range(4000):  # plain descent on -Tr(G S H^T) + rho/2 |G^T H|^2
        product = g.T @ h
        g, h = (
            g - 0.05 * (-h @ covariance.T + rho * h @ product.T),
            h - 0.05 * (-g @ covariance + rho * g @ product),
        )
    assert LinearClip(g, h).contrastive_loss(covariance, rho) == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(g.T @ h, best.image_encoder_rd.T @ best.text_encoder_re, atol=1e-4)
    u, s, vt = np.linalg.svd(covariance)
    np.testing.assert_allclose(
        best.image_encoder_rd.T @ best.text_encoder_re,
        u[:, :2] @ np.diag(s[:2]) @ vt[:2] / rho,
        atol=1e-12,
    )


def test_sin_theta_is_that_of_the_principal_angles():
    rng = np.random.default_rng(2)
    a = np.linalg.qr(rng.standard_normal((8, 3)))[0]
    b = np.linalg.qr(rng.standard_normal((8, 3)))[0]
    cosines = np.linalg.svd(a.T @ b, compute_uv=False)
    assert sin_theta(a, b) == pytest.approx(np.sqrt(np.sum(1 - cosines**2)), rel=1e-12)
    assert sin_theta(b, a) == pytest.approx(sin_theta(a, b), rel=1e-12)


def test_small_angles_keep_their_digits():
    angle = 1e-9
    turned = np.array([[np.cos(angle)], [np.sin(angle)]])
    assert sin_theta(turned, np.array([[1.0], [0.0]])) == pytest.approx(angle, rel=1e-6)


def test_error_is_the_worse_modality_and_blind_to_the_factorisation():
    model = BimodalModel(8, 6, 2)
    rng = np.random.default_rng(3)
    other = np.linalg.qr(rng.standard_normal((6, 2)))[0]
    mixing = rng.standard_normal((2, 2))
    learned = LinearClip(mixing @ model.image_basis_dr.T, mixing @ other.T)
    expected = sin_theta(other, model.text_basis_er)
    assert expected > 0.1
    assert representation_error(learned, model) == pytest.approx(expected, rel=1e-10)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="rho=0"):
        solve(np.eye(3), 2, rho=0)
    with pytest.raises(ValueError, match="rank=4"):
        solve(np.eye(3), 4)
