import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selffilter.selecting import histograms as histograms_module
from selffilter.selecting.histograms import histogram, histograms, score_range

SCORES = np.array([0.0, 0.1, 0.26, 0.5, 0.99, 1.0, np.nan, np.inf, -np.inf], np.float32)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    default = histograms_module.chunks
    monkeypatch.setattr(histograms_module, "chunks", lambda rows: default(rows, 4))


def test_scores_are_counted_in_bins_and_what_is_no_number_is_not():
    found = histogram(SCORES, 0, 1, 4)
    assert found.counts_B.tolist() == [2, 1, 1, 2]
    assert found.rows == 6
    assert found.width == 0.25
    assert found.centres_B.tolist() == [0.125, 0.375, 0.625, 0.875]


def test_what_lies_outside_is_counted_at_the_ends():
    assert histogram(SCORES, 0.2, 0.6, 2).counts_B.tolist() == [3, 3]


def test_of_some_rows_by_mask_or_number():
    mask = np.arange(9) % 2 == 1
    by_mask = histogram(SCORES, 0, 1, 4, mask)
    assert by_mask.counts_B.tolist() == [1, 0, 1, 1]
    assert histogram(SCORES, 0, 1, 4, np.flatnonzero(mask)).counts_B.tolist() == [1, 0, 1, 1]
    assert score_range(SCORES, mask) == (pytest.approx(0.1), 1.0)
    assert score_range(SCORES, np.array([6, 7])) is None


def test_parts_of_a_pool_share_their_bins():
    found = histograms(SCORES, {"base": np.ones(9, bool), "probe": np.array([1, 2])}, bins=10)
    assert {(h.low, h.high, len(h.counts_B)) for h in found.values()} == {(0.0, 1.0, 10)}
    assert [h.rows for h in found.values()] == [6, 2]


def test_without_scores_there_are_none_and_one_score_is_one_bin():
    assert histograms(SCORES, {"failed": np.array([6, 7, 8])}) == {}
    found = histograms(np.full(5, 3.0), {"all": np.ones(5, bool)}, bins=3)["all"]
    assert found.counts_B.tolist() == [0, 5, 0]
    assert histograms(np.full(5, 1e30), {"all": np.ones(5, bool)})["all"].rows == 5


@given(
    st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=50),
    st.integers(1, 20),
    st.floats(0.01, 1),
)
def test_a_quantile_has_that_share_of_the_scores_below_it(scores, bins, fraction):
    found = histogram(np.array(scores, np.float32), -5, 5, bins)
    assert found.rows == len(scores)
    below = np.cumsum(found.counts_B)
    place = round((found.quantile(fraction) + 5) / found.width) - 1
    assert below[place] >= fraction * len(scores) * (1 - 1e-9)
    assert place == 0 or below[place - 1] < fraction * len(scores) * (1 + 1e-9)


def test_no_width_is_refused():
    with pytest.raises(ValueError, match="no width"):
        histogram(SCORES, 1, 1, 4)
