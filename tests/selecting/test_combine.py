import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import rankdata

from selffilter.selecting.combine import quantiles, rank_ensemble

NAN = np.nan
COLUMNS = hnp.arrays(
    np.float32,
    st.integers(0, 40),
    elements=st.one_of(st.just(NAN), st.integers(-3, 3), st.floats(-1, 1, width=32)),
)


def test_quantiles_go_from_the_worst_to_the_best():
    assert quantiles(np.array([0.1, 0.9, -5, 0.5])).tolist() == [0.375, 0.875, 0.125, 0.625]


@given(COLUMNS)
def test_quantiles_are_the_mid_ranks_and_rows_without_a_score_keep_none(scores):
    found = quantiles(scores)
    scored = np.isfinite(scores)
    assert np.isnan(found[~scored]).all()
    if scored.any():
        expected = (rankdata(scores[scored]) - 0.5) / scored.sum()
        np.testing.assert_allclose(found[scored], expected, rtol=0, atol=1e-15)
        assert abs(found[scored].mean() - 0.5) < 1e-12


@given(COLUMNS, st.sampled_from([2.0**-9, 8.0]))
def test_quantiles_do_not_know_the_scale(scores, scale):
    np.testing.assert_array_equal(quantiles(scale * scores.astype(np.float64)), quantiles(scores))


def test_an_ensemble_is_of_quantiles_and_needs_all_of_them():
    a, b = np.array([1, 2, 3, NAN, 5]), np.array([-10, -1000, NAN, 0, -1])
    np.testing.assert_allclose(
        rank_ensemble([a, b]),
        np.array([(0.125 + 0.375) / 2, (0.375 + 0.125) / 2, NAN, NAN, (0.875 + 0.625) / 2]),
    )
    np.testing.assert_allclose(rank_ensemble([a, b], "min"), [0.125, 0.125, NAN, NAN, 0.625])
    np.testing.assert_allclose(rank_ensemble([a]), quantiles(a))
    assert rank_ensemble([a, b]).dtype == np.float32


def test_what_has_no_meaning_is_refused():
    one, two = np.zeros(1), np.zeros(2)
    for wrong in (
        lambda: rank_ensemble([]),
        lambda: rank_ensemble([one, two]),
        lambda: rank_ensemble([one, one], "median"),
    ):
        with pytest.raises(ValueError):
            wrong()
