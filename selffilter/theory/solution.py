"""The closed-form minimiser of the linear contrastive loss, and its error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from selffilter.theory.model import Array, BimodalModel


@dataclass(frozen=True)
class LinearClip:
    """A pair of linear encoders, ``x -> G x`` and ``y -> H y`` (the paper's G and G-tilde).

    Attributes:
        image_encoder_rd: G, (r, d).
        text_encoder_re: H, (r, e).
    """

    image_encoder_rd: Array
    text_encoder_re: Array

    def embed(self, x_nd: Array, y_ne: Array) -> tuple[Array, Array]:
        """Return the image and text embeddings, each (n, r)."""
        return x_nd @ self.image_encoder_rd.T, y_ne @ self.text_encoder_re.T

    def contrastive_loss(self, covariance_de: Array, rho: float = 1.0) -> float:
        """Return ``-Tr(G S H^T) + (rho/2) ||G^T H||_F^2`` (arXiv 2512.14230, linear loss)."""
        product_de = self.image_encoder_rd.T @ self.text_encoder_re
        return float(-np.sum(covariance_de * product_de) + rho / 2 * np.sum(product_de**2))


def solve(covariance_de: Array, rank: int, rho: float = 1.0) -> LinearClip:
    """Minimise the linear contrastive loss: ``G^T H = (1/rho) SVD_r(S)``.

    Source: arXiv 2512.14230, closed-form solution. The loss fixes only the product; we take the
    balanced factors ``G = diag(sqrt(s/rho)) P^T``, ``H = diag(sqrt(s/rho)) Q^T``. Inner-product
    scores do not depend on that choice; cosine scores do.

    Args:
        covariance_de: S, cross-covariance, (d, e).
        rank: r, the width of the embedding, 1 to min(d, e).
        rho: strength of the regulariser, > 0; it scales every score by 1/rho and moves no subspace.

    Returns:
        The encoders, (r, d) and (r, e).
    """
    if not rho > 0:
        raise ValueError(f"rho={rho} must be > 0: without it the loss has no minimum")
    if not 1 <= rank <= min(covariance_de.shape):
        raise ValueError(
            f"rank={rank} must lie between 1 and {min(covariance_de.shape)}, the smaller side of "
            f"a covariance of shape {covariance_de.shape}"
        )
    p_dd, s, qt_ee = np.linalg.svd(covariance_de, full_matrices=False)
    root_r1 = np.sqrt(s[:rank] / rho)[:, None]
    return LinearClip(root_r1 * p_dd[:, :rank].T, root_r1 * qt_ee[:rank])


def sin_theta(basis_dr: Array, reference_dr: Array) -> float:
    """Return ``||sin Theta||_F`` between two subspaces, 0 to sqrt(r).

    Computed as ``||(I - B B^T) R||_F``, which keeps its digits at small angles where
    ``sqrt(1 - cos^2)`` loses them.

    Args:
        basis_dr: orthonormal columns, (d, r).
        reference_dr: orthonormal columns, (d, r).
    """
    rest_dr = reference_dr - basis_dr @ (basis_dr.T @ reference_dr)
    return float(np.linalg.norm(rest_dr))


def representation_error(learned: LinearClip, model: BimodalModel) -> float:
    """Return the larger of the two modalities' ``||sin Theta||_F``.

    Compares the right singular subspaces of the encoders with the true bases. Source: arXiv
    2512.14230, error metric; taking the *maximum* over the modalities is our reading, and the one
    that reproduces the published table.
    """
    return max(
        sin_theta(_row_space(learned.image_encoder_rd), model.image_basis_dr),
        sin_theta(_row_space(learned.text_encoder_re), model.text_basis_er),
    )


def _row_space(encoder_rd: Array) -> Array:
    """Return an orthonormal basis (d, r) of the encoder's right singular subspace."""
    return np.asarray(np.linalg.svd(encoder_rd, full_matrices=False)[2].T)
