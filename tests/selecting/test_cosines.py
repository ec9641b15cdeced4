"""Cosines are compared the same way however they are cut into blocks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selffilter.selecting import cosines
from selffilter.selecting.cosines import alike, first_within, nearest, streamed, usable


def unit(*shape, seed=0):
    features = np.random.default_rng(seed).standard_normal(shape)
    return (features / np.linalg.norm(features, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(cosines, "_COSINES_AT_ONCE", 64)


def test_the_nearest_is_the_one_of_highest_cosine():
    features, others = unit(500, 24), unit(40, 24, seed=1)
    index, cosine = nearest(features, others)
    exact = features.astype(np.float64) @ others.T.astype(np.float64)
    np.testing.assert_array_equal(index, exact.argmax(axis=1))
    np.testing.assert_allclose(cosine, exact.max(axis=1), atol=1e-6)
    assert index.dtype == np.int32 and cosine.dtype == np.float32


def test_ties_go_to_the_lowest_index():
    features, others = unit(300, 33), unit(9, 33, seed=1)
    index, _ = nearest(features, np.concatenate([others, others[::-1], others]))
    assert index.max() < 9
    np.testing.assert_array_equal(index, nearest(features, others)[0])


def test_cosines_that_float32_cannot_tell_apart_are_told_apart():
    above = np.nextafter(np.float32(0.8), np.float32(1))
    features, others = np.float32([[1, 1e-2]]), np.float32([[0.6, 0.8], [0.6, above]])
    cosine = features @ others.T
    assert cosine[0, 0] == cosine[0, 1]
    assert nearest(features, others)[0].tolist() == [1]
    assert nearest(features, others[::-1])[0].tolist() == [0]


def test_a_row_without_features_has_no_nearest():
    features = unit(5, 8)
    features[2] = np.nan
    index, cosine = nearest(features, unit(3, 8, seed=1))
    assert index[2] == -1 and np.isnan(cosine[2])
    assert (index[[0, 1, 3, 4]] >= 0).all()
    np.testing.assert_array_equal(usable(features), [True, True, False, True, True])


def test_blocks_change_nothing(small_blocks):
    features, others = unit(200, 16), unit(30, 16, seed=1)
    in_blocks = nearest(features, others)[0], first_within(features, others, 0.3)
    cosine = features @ others.T
    np.testing.assert_array_equal(in_blocks[0], cosine.argmax(axis=1))
    first = np.where((cosine >= 0.3).any(axis=1), (cosine >= 0.3).argmax(axis=1), -1)
    np.testing.assert_array_equal(in_blocks[1], first)


def test_the_threshold_itself_is_alike():
    # 3-4-5: as float32 the cosine is the float32 next to 0.6, which is above it.
    features, others = np.float32([[1, 0]]), np.float32([[0.6, 0.8], [0.6, -0.8], [0.5999, 0.8]])
    assert alike(features, others, 0.6).tolist() == [[True, True, False]]


@given(cut=st.integers(1, 59), threshold=st.sampled_from([0.5, 0.8, 0.9]))
def test_whether_two_rows_are_alike_does_not_depend_on_the_others(cut, threshold):
    # Every cosine is the threshold but for rounding: float32 products round as their blocks do.
    rng = np.random.default_rng(3)
    base = np.zeros((60, 64))
    base[:, 0] = threshold
    rest = rng.standard_normal((60, 63))
    base[:, 1:] = rest / np.linalg.norm(rest, axis=1, keepdims=True) * np.sqrt(1 - threshold**2)
    turn = np.linalg.qr(rng.standard_normal((64, 64)))[0]
    features, other = (base @ turn).astype(np.float32), turn[:1].astype(np.float32)
    whole = alike(features, other, threshold)
    assert 0 < whole.sum() < 60
    parts = [alike(features[:cut], other, threshold), alike(features[cut:], other, threshold)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    np.testing.assert_array_equal(whole, alike(other, features, threshold).T)


def test_the_first_of_several_counts_and_none_is_minus_one():
    features = np.float32([[1, 0], [0, 1], [np.nan, np.nan]])
    others = np.float32([[-1, 0], [0.8, 0.6], [1, 0]])
    assert first_within(features, others, 0.7).tolist() == [1, -1, -1]
    assert first_within(features, others[:0], 0.7).tolist() == [-1, -1, -1]


def test_rows_are_streamed_in_order_and_counted(monkeypatch):
    monkeypatch.setattr(cosines, "_ROWS_AT_ONCE", 3)
    monkeypatch.setattr(cosines, "_READ_AT_ONCE", 8)
    among = np.random.default_rng(0).random(30) < 0.7
    features, done = unit(30, 4), []
    seen = [(rows, part) for rows, part in streamed(lambda r: features[r], among, done.append)]
    rows = np.concatenate([rows for rows, _ in seen])
    np.testing.assert_array_equal(rows, np.flatnonzero(among))
    np.testing.assert_array_equal(np.concatenate([part for _, part in seen]), features[rows])
    assert max(len(rows) for rows, _ in seen) == 3
    assert sum(done) == among.sum()
