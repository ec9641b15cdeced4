import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selffilter.selecting.clean_share import FEWEST_ROWS, clean_share


def pool(rows, clean, apart, seed=0):
    """Scores of a pool with a share of clean rows, and of wrong pairs."""
    rng = np.random.default_rng(seed)
    right = rng.random(rows) < clean
    scores = np.where(right, rng.normal(apart, 1, rows), rng.normal(0, 1, rows))
    return scores.astype(np.float32), rng.normal(0, 1, 4 * rows).astype(np.float32)


@given(st.floats(0, 1), st.integers(0, 9))
def test_a_model_that_tells_them_apart_finds_the_share(clean, seed):
    found = clean_share(*pool(20_000, clean, 6, seed))
    assert found is not None
    assert found.share == pytest.approx(clean, abs=0.06)
    assert found.rows == 20_000


@given(st.floats(0, 1), st.floats(0, 3), st.integers(0, 9))
def test_it_is_a_lower_bound_whatever_the_model(clean, apart, seed):
    found = clean_share(*pool(20_000, clean, apart, seed))
    assert found is not None
    assert found.share <= clean + 4 * found.standard_error


def test_a_model_that_knows_nothing_bounds_nothing():
    found = clean_share(*pool(20_000, 0.5, 0))
    assert found is not None and found.share < 0.05


def test_the_error_is_that_of_drawing_again():
    found = [clean_share(*pool(2_000, 0.5, 2, seed)) for seed in range(60)]
    shares = [f.share for f in found if f]
    assert 0.5 < np.std(shares) / found[0].standard_error < 1.5


def test_rows_without_a_score_do_not_count_and_too_few_say_nothing():
    scores, null = pool(1000, 0.5, 4)
    scores[: 1001 - FEWEST_ROWS] = np.nan
    assert clean_share(scores, null) is None
    scores, null = pool(1000, 0.5, 4)
    assert clean_share(scores, null[: FEWEST_ROWS - 1]) is None
    assert clean_share(np.zeros(500, np.float32), np.zeros(500, np.float32)).share == 0
