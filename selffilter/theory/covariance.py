"""The centred cross-covariance, accumulated over chunks."""

from __future__ import annotations

import numpy as np

from selffilter.theory.model import Array


class CrossCovariance:
    """``S_n = 1/(n-1) * sum_i (x_i - mean x)(y_i - mean y)^T`` over a stream of blocks.

    Source: arXiv 2512.14230, definition of the empirical cross-covariance. Blocks are merged by
    their means and centred sums (Chan et al. 1979), so a large common offset costs no digits.
    """

    def __init__(self, image_dim: int, text_dim: int) -> None:
        """Start empty, for vectors of the given widths."""
        self.count = 0
        self._mean_d = np.zeros(image_dim)
        self._mean_e = np.zeros(text_dim)
        self._moment_de = np.zeros((image_dim, text_dim))

    def add(self, x_nd: Array, y_ne: Array) -> None:
        """Take in a block of pairs, (n, d) and (n, e); an empty block changes nothing."""
        if len(x_nd) != len(y_ne):
            raise ValueError(f"{len(x_nd)} images against {len(y_ne)} texts: pairs must match")
        n = len(x_nd)
        if n == 0:
            return
        mean_d, mean_e = x_nd.mean(0), y_ne.mean(0)
        total = self.count + n
        step_d, step_e = mean_d - self._mean_d, mean_e - self._mean_e
        self._moment_de += (x_nd - mean_d).T @ (y_ne - mean_e)
        self._moment_de += np.outer(step_d, step_e) * (self.count * n / total)
        self._mean_d += step_d * (n / total)
        self._mean_e += step_e * (n / total)
        self.count = total

    def value(self) -> Array:
        """Return S_n, (d, e).

        Raises:
            ValueError: fewer than two pairs were added.
        """
        if self.count < 2:
            raise ValueError(
                f"{self.count} pairs were kept, and a covariance needs 2: keep a larger fraction, "
                "lower the threshold or draw a larger pool"
            )
        return self._moment_de / (self.count - 1)
