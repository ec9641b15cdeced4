"""Rows are ranked by their places, whichever of them this round has scored."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selffilter.selecting.combine import quantiles
from selffilter.selecting.merit import merit

ALL = np.ones(5, bool)


def of(*scores):
    return np.array(scores, np.float32)


def test_the_first_merit_is_the_place_among_all():
    found = merit(of(30, 10, np.nan, 20, 40), ALL)
    np.testing.assert_allclose(found, of(0.625, 0.125, np.nan, 0.375, 0.875))


def test_rows_that_are_not_scored_afresh_keep_their_place():
    before = of(0.1, 0.3, 0.5, 0.7, 0.9)
    fresh = np.array([True, False, True, False, False])
    # On whatever scale the new scores are.
    found = merit(of(1e6, 0.3, -1e6, 0.7, 0.9), fresh, before)
    np.testing.assert_allclose(found[~fresh], before[~fresh])
    # The two have exchanged theirs.
    np.testing.assert_allclose(found[fresh], before[fresh][::-1], atol=1e-6)


def test_being_chosen_for_a_new_score_moves_nobody():
    rng = np.random.default_rng(0)
    before = merit(rng.normal(size=1000).astype(np.float32), np.ones(1000, bool))
    fresh = before < 0.3  # the worst alone
    again = merit(np.where(fresh, 5 + before, before), fresh, before)
    np.testing.assert_allclose(again, before, atol=1e-3)


def test_a_row_that_had_no_place_gets_one_among_the_fresh():
    before = of(0.1, 0.5, 0.9, np.nan, np.nan)
    fresh = np.array([True, False, True, True, False])
    scores = of(1, 0, 3, 2, np.nan)
    found = merit(scores, fresh, before)
    assert np.isnan(found[4])
    assert found[0] < found[3] < found[2]
    # Between the places that the fresh rows had: .1 and .9.
    np.testing.assert_allclose(found[3], 0.5, atol=0.01)


@pytest.mark.parametrize("half_life", [0.5, 1.0, 3.0])
def test_where_all_are_scored_each_round_a_place_counts_half_as_much_as_one_a_half_life_later(
    half_life,
):
    rng = np.random.default_rng(1)
    rounds = rng.normal(size=(4, 200)).astype(np.float32)
    before = None
    for count, scores in enumerate(rounds, start=1):
        fresh = np.ones(200, bool)
        before = merit(scores, fresh, before, half_life_rounds=half_life, rounds=count)
    weight_R = 0.5 ** (np.arange(4)[::-1] / half_life)
    expected = np.average([quantiles(scores) for scores in rounds], axis=0, weights=weight_R)
    np.testing.assert_allclose(before, expected, atol=1e-6)


def test_without_a_memory_the_latest_place_counts():
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(2, 50)).astype(np.float32)
    everyone = np.ones(50, bool)
    found = merit(second, everyone, merit(first, everyone), rounds=2)
    np.testing.assert_allclose(found, quantiles(second), atol=1e-6)


@given(st.integers(0, 2**32 - 1), st.floats(0, 3))
def test_a_merit_is_a_place(seed, half_life):
    rng = np.random.default_rng(seed)
    before = None
    for count in range(1, 4):
        scores = rng.normal(size=30).astype(np.float32).round(1)
        scores[rng.random(30) < 0.1] = np.nan
        fresh = rng.random(30) < 0.6
        found = merit(scores, fresh, before, half_life_rounds=half_life, rounds=count)
        placed = np.isfinite(found)
        assert ((found[placed] >= 0) & (found[placed] <= 1)).all()
        assert placed[fresh & np.isfinite(scores)].all()
        assert not placed[np.isnan(scores)].any()
        before = found
