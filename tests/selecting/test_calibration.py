import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selffilter.selecting import calibration
from selffilter.selecting.calibration import Reliability, reliability

ROWS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    default = calibration.chunks
    monkeypatch.setattr(calibration, "chunks", lambda rows: default(rows, 7))


def test_a_reliability_table_compares_what_was_said_with_what_is():
    found = reliability(
        np.array([0.05, 0.05, 0.15, 0.95, 1.0, np.nan]), np.array([0, 1, 0, 1, 1, 1], bool)
    )
    assert found.rows_B.tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert found.posterior_B[[0, 1, 9]] == pytest.approx([0.05, 0.15, 0.975])
    assert found.clean_B[[0, 1, 9]] == pytest.approx([0.5, 0, 1])
    assert np.isnan(found.clean_B[2:9]).all()
    error = (2 * 0.45 + 1 * 0.15 + 2 * 0.025) / 5
    assert found.expected_calibration_error == pytest.approx(error)
    table = found.table()
    assert table["from"].to_pylist() == pytest.approx([i / 10 for i in range(10)])
    assert table["rows"].to_pylist() == found.rows_B.tolist()
    again = Reliability.of_table(table)
    for name in ("rows_B", "posterior_B", "clean_B"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))


def test_true_probabilities_are_calibrated_and_overconfident_ones_are_not():
    rng = np.random.default_rng(0)
    p = rng.random(40_000)
    clean = rng.random(40_000) < p
    assert reliability(p, clean).expected_calibration_error < 0.02
    assert reliability((p > 0.5).astype(float), clean).expected_calibration_error > 0.2


@given(ROWS)
def test_bins_hold_every_row_once_and_average_to_the_whole(rows):
    p = np.array([x for x, _ in rows])
    clean = np.array([x for _, x in rows], bool)
    found = reliability(p, clean)
    assert found.rows_B.sum() == len(rows)
    assert np.nansum(found.rows_B * found.clean_B) == pytest.approx(clean.sum())
    assert np.nansum(found.rows_B * found.posterior_B) == pytest.approx(p.sum())
    if rows:
        assert 0 <= found.expected_calibration_error <= 1
    else:
        assert math.isnan(found.expected_calibration_error)


def test_what_is_no_probability_or_of_another_length_is_refused():
    with pytest.raises(ValueError, match="probabilities from"):
        reliability(np.array([0.5, 1.5]), np.array([True, False]))
    with pytest.raises(ValueError, match="2 rows, and the truth of 1"):
        reliability(np.array([0.5, 0.5]), np.array([True]))
