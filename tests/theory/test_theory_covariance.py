"""Chunked covariance against numpy's."""

import numpy as np
import pytest

from selffilter.theory import CrossCovariance


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_chunks_give_the_dense_covariance(offset):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 4)) + offset
    y = rng.standard_normal((500, 3)) + x[:, :3] - offset
    covariance = CrossCovariance(4, 3)
    for start, stop in ((0, 1), (1, 1), (1, 300), (300, 500)):  # with an empty and a single row
        covariance.add(x[start:stop], y[start:stop])
    dense = np.cov(x.T, y.T)[:4, 4:]
    np.testing.assert_allclose(covariance.value(), dense, rtol=0, atol=1e-8 if offset else 1e-13)


def test_too_few_or_unmatched_rows_are_refused():
    covariance = CrossCovariance(2, 2)
    covariance.add(np.ones((1, 2)), np.ones((1, 2)))
    with pytest.raises(ValueError, match="1 pairs were kept"):
        covariance.value()
    with pytest.raises(ValueError, match="3 images against 2 texts"):
        covariance.add(np.ones((3, 2)), np.ones((2, 2)))
