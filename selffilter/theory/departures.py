"""Data that break one assumption of the model at a time [ours]."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from selffilter.theory.model import Array, BimodalModel, Mask, Pairs


@dataclass(frozen=True)
class CorrelatedMismatches(BimodalModel):
    """Mismatched pairs whose latents still correlate, as captions of near-duplicates do.

    Attributes:
        correlation: of z and z' in mismatched pairs, -1 to 1. Negative: captions that say the
            opposite.
    """

    correlation: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is not a correlation."""
        super().__post_init__()
        if not -1 <= self.correlation <= 1:
            raise ValueError(f"correlation={self.correlation} must be in [-1, 1]")

    def latents(self, clean_n: Mask, rng: np.random.Generator) -> tuple[Array, Array]:
        """See `BimodalModel.latents`; mismatched w = c z + sqrt(1 - c^2) fresh."""
        z_nr, w_nr = super().latents(clean_n, rng)
        mixed_nr = self.correlation * z_nr + np.sqrt(1 - self.correlation**2) * w_nr
        return z_nr, np.where(clean_n[:, None], z_nr, mixed_nr)


@dataclass(frozen=True)
class UnequalSpectrum(BimodalModel):
    """Latent dimensions of unequal strength: common concepts and rare ones.

    Attributes:
        latent_scales: standard deviation of each latent dimension, length ``rank``, all > 0.
    """

    latent_scales: tuple[float, ...] = (2.0, 1.0, 0.5, 0.25)

    def __post_init__(self) -> None:
        """Refuse a wrong number of scales."""
        super().__post_init__()
        if len(self.latent_scales) != self.rank or min(self.latent_scales) <= 0:
            raise ValueError(
                f"latent_scales={self.latent_scales}: give rank={self.rank} positive values"
            )

    def latents(self, clean_n: Mask, rng: np.random.Generator) -> tuple[Array, Array]:
        """See `BimodalModel.latents`."""
        z_nr, w_nr = super().latents(clean_n, rng)
        scale_r = np.asarray(self.latent_scales)
        return z_nr * scale_r, w_nr * scale_r


@dataclass(frozen=True)
class HeavyTails(BimodalModel):
    """Pairs whose overall size varies: a multivariate Student t in each view.

    Latent and noise of a view are multiplied by one factor, of unit mean square, drawn a view and
    a pair; a few huge vectors then weigh as much as thousands of ordinary ones.

    Attributes:
        dof: degrees of freedom, > 2; small means heavy.
    """

    dof: float = 3.0

    def __post_init__(self) -> None:
        """Refuse tails without a variance."""
        super().__post_init__()
        if not self.dof > 2:
            raise ValueError(f"dof={self.dof}: the variance is infinite; give a value above 2")

    def sample(self, n: int, rng: np.random.Generator) -> Pairs:
        """See `BimodalModel.sample`."""
        x_nd, y_ne, clean_n = super().sample(n, rng)
        for view in (x_nd, y_ne):
            view *= np.sqrt((self.dof - 2) / rng.chisquare(self.dof, n))[:, None]
        return Pairs(x_nd, y_ne, clean_n)


@dataclass(frozen=True)
class SharedNuisance(BimodalModel):
    """Mismatched pairs that agree in something that is not content.

    An adversary (or a template: a watermark with the caption that always goes with it) adds one
    common factor along a direction outside both signal subspaces: mismatched rows get ``s g p`` in
    the image and ``s g q`` in the text with the same ``g ~ N(0, 1)``. Its share of the
    cross-covariance is ``(1 - eta) s^2`` against ``eta`` for each latent dimension: above equality
    the nuisance is the strongest thing there is to learn.

    Attributes:
        strength: s, >= 0.
    """

    strength: float = 0.5

    def sample(self, n: int, rng: np.random.Generator) -> Pairs:
        """See `BimodalModel.sample`."""
        x_nd, y_ne, clean_n = super().sample(n, rng)
        factor_n = self.strength * rng.standard_normal(n) * ~clean_n
        x_nd += factor_n[:, None] * self._full_image_basis_dd[:, self.rank]
        y_ne += factor_n[:, None] * self._full_text_basis_ee[:, self.rank]
        return Pairs(x_nd, y_ne, clean_n)


@dataclass(frozen=True)
class PrivateNuisance(BimodalModel):
    """Each view varies strongly in a direction that means nothing to the other view.

    Backgrounds and camera in images, phrasing in text: one direction a view outside the signal,
    independent between the views in every pair, clean or not. It adds nothing to the
    cross-covariance on average; but it is what a filter can agree on by accident.

    Attributes:
        strength: standard deviation of the nuisance, >= 0; each signal direction has about 1.
    """

    strength: float = 1.5

    def sample(self, n: int, rng: np.random.Generator) -> Pairs:
        """See `BimodalModel.sample`."""
        x_nd, y_ne, clean_n = super().sample(n, rng)
        for view, basis in ((x_nd, self._full_image_basis_dd), (y_ne, self._full_text_basis_ee)):
            view += self.strength * rng.standard_normal((n, 1)) * basis[:, self.rank]
        return Pairs(x_nd, y_ne, clean_n)


@dataclass(frozen=True)
class RotatedBases(BimodalModel):
    """The same world seen elsewhere: signal subspaces turned by an angle, to train a teacher on.

    Attributes:
        angle: radians by which every signal direction is turned out of the true subspace, 0 to
            pi/2; needs at least 2r dimensions in each view.
    """

    image_dim: int = 10
    text_dim: int = 8
    angle: float = field(default=0.0)

    def __post_init__(self) -> None:
        """Refuse views too narrow to turn in."""
        super().__post_init__()
        if min(self.image_dim, self.text_dim) < 2 * self.rank:
            raise ValueError(
                f"turning {self.rank} directions out of their subspace needs {2 * self.rank} "
                f"dimensions a view; got {self.image_dim} and {self.text_dim}"
            )

    @property
    def image_basis_dr(self) -> Array:
        """The turned image basis, (d, r)."""
        return self._turned(self._full_image_basis_dd)

    @property
    def text_basis_er(self) -> Array:
        """The turned text basis, (e, r)."""
        return self._turned(self._full_text_basis_ee)

    def _turned(self, basis: Array) -> Array:
        inside, outside = basis[:, : self.rank], basis[:, self.rank : 2 * self.rank]
        return np.asarray(np.cos(self.angle) * inside + np.sin(self.angle) * outside)
