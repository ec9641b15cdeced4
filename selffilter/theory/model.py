"""The bimodal data of arXiv 2512.14230 (data generation model), and pools drawn from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Pools up to this size are kept after the first pass; larger ones are drawn again in each pass,
# which is what lets n = 10^7 fit in 1 GB.
CACHE_BYTES = 200_000_000


class Pairs(NamedTuple):
    """A block of image-text pairs.

    Attributes:
        x_nd: image vectors, float64 (n, d).
        y_ne: text vectors, float64 (n, e); row i is paired with row i of ``x_nd``.
        clean_n: True where the two views share their latent, bool (n,).
    """

    x_nd: Array
    y_ne: Array
    clean_n: Mask


@dataclass(frozen=True)
class BimodalModel:
    """Two noisy linear views of one latent, a share of which is mismatched.

    ``x = U z + xi`` and ``y = V z' + xi'``, with ``z ~ N(0, I_r)``; ``z' = z`` with probability
    ``clean_share`` and an independent draw otherwise; ``xi ~ N(0, I/gamma)``. Source: arXiv
    2512.14230, data generation model (there V, z', xi' carry tildes and clean_share is eta).

    The defaults are the setting of the paper's table of kept fractions.

    Attributes:
        image_dim: d, at least ``rank``.
        text_dim: e (the paper's d-tilde), at least ``rank``.
        rank: r, latent dimensions, at least 1.
        image_gamma: signal-to-noise ratio of the image view, > 0; noise variance is 1/gamma.
        text_gamma: the same for the text view.
        clean_share: eta, in [0, 1].
        basis_seed: seed of the two bases ``U`` and ``V``.
    """

    image_dim: int = 10
    text_dim: int = 8
    rank: int = 4
    image_gamma: float = 1e4
    text_gamma: float = 1e4
    clean_share: float = 0.3
    basis_seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings for which the model is not defined."""
        if self.rank < 1 or self.rank > min(self.image_dim, self.text_dim):
            raise ValueError(
                f"rank={self.rank} must lie between 1 and the smaller of image_dim="
                f"{self.image_dim} and text_dim={self.text_dim}; lower rank or raise the dimensions"
            )
        if not 0.0 <= self.clean_share <= 1.0:
            raise ValueError(f"clean_share={self.clean_share} is a probability; give 0 to 1")
        for name in ("image_gamma", "text_gamma"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"{name}={getattr(self, name)} is a signal-to-noise ratio; give a value > 0"
                )

    @cached_property
    def image_basis_dr(self) -> Array:
        """U: orthonormal columns that span the image signal, (d, r)."""
        return self._full_image_basis_dd[:, : self.rank]

    @cached_property
    def text_basis_er(self) -> Array:
        """V: orthonormal columns that span the text signal, (e, r)."""
        return self._full_text_basis_ee[:, : self.rank]

    @cached_property
    def _full_image_basis_dd(self) -> Array:
        return _orthogonal(self.image_dim, np.random.default_rng([self.basis_seed, 0]))

    @cached_property
    def _full_text_basis_ee(self) -> Array:
        return _orthogonal(self.text_dim, np.random.default_rng([self.basis_seed, 1]))

    def sample(self, n: int, rng: np.random.Generator) -> Pairs:
        """Draw n pairs.

        Args:
            n: number of pairs.
            rng: source of randomness; the same state gives the same pairs.

        Returns:
            The pairs with their hidden cleanness.
        """
        clean_n = rng.random(n) < self.clean_share
        z_nr, w_nr = self.latents(clean_n, rng)
        x_nd = z_nr @ self.image_basis_dr.T
        x_nd += rng.standard_normal(x_nd.shape) / np.sqrt(self.image_gamma)
        y_ne = w_nr @ self.text_basis_er.T
        y_ne += rng.standard_normal(y_ne.shape) / np.sqrt(self.text_gamma)
        return Pairs(x_nd, y_ne, clean_n)

    def latents(self, clean_n: Mask, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draw the latents of both views: equal where clean, independent elsewhere; each (n, r)."""
        z_nr = rng.standard_normal((clean_n.size, self.rank))
        w_nr = rng.standard_normal((clean_n.size, self.rank))
        w_nr[clean_n] = z_nr[clean_n]
        return z_nr, w_nr


class Pool:
    """n pairs of a model, as a repeatable stream of chunks.

    Chunk k is a function of (seed, k) alone, so a pass can be repeated without storing the pool.
    """

    def __init__(self, model: BimodalModel, n: int, seed: int, chunk: int = 65_536) -> None:
        """Name a pool; nothing is drawn yet.

        Args:
            model: the distribution.
            n: number of pairs, at least 2.
            seed: names the draw; >= 0.
            chunk: pairs drawn at a time; part of the pool's identity, since it seeds the chunks.
        """
        if n < 2:
            raise ValueError(f"n={n} pairs have no covariance; give at least 2")
        if chunk < 1:
            raise ValueError(f"chunk={chunk} must be at least 1")
        self.model, self.n, self.seed, self.chunk = model, n, seed, chunk
        keep = n * (model.image_dim + model.text_dim) * 8 <= CACHE_BYTES
        self._cache: list[Pairs] | None = [] if keep else None

    def chunks(self) -> Iterator[Pairs]:
        """Yield the pool in order, at most ``chunk`` pairs at a time."""
        if self._cache:
            yield from self._cache
            return
        drawn: list[Pairs] = []
        for index, start in enumerate(range(0, self.n, self.chunk)):
            rng = np.random.default_rng([self.seed, index])
            pairs = self.model.sample(min(self.chunk, self.n - start), rng)
            if self._cache is not None:
                drawn.append(pairs)
            yield pairs
        # Stored only after a full pass: an abandoned iteration must not leave half a pool.
        if self._cache is not None:
            self._cache = drawn

    def all(self) -> Pairs:
        """Return the pool as one block (n * (d + e) * 8 bytes)."""
        blocks = list(self.chunks())
        if len(blocks) == 1:
            return blocks[0]
        return Pairs(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))


def _orthogonal(dim: int, rng: np.random.Generator) -> Array:
    """Return a Haar-random orthogonal matrix (dim, dim)."""
    q, r = np.linalg.qr(rng.standard_normal((dim, dim)))
    # Without the sign fix, QR's own convention makes the draw non-uniform.
    return np.asarray(q * np.sign(np.diag(r)))
