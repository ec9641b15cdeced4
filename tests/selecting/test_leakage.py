"""Rows that show what is in an evaluation set are found by hash and by embedding."""

import numpy as np
import pytest

from selffilter.selecting.leakage import Leaks, near_images, same_images


def at(*degrees):
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def same(pool, evaluation, among=None):
    among = np.ones(len(pool), bool) if among is None else np.array(among)
    return same_images(np.array(pool, np.uint64), among, np.array(evaluation, np.uint64))


def near(pool, evaluation, threshold, among=None, **how):
    among = np.ones(len(pool), bool) if among is None else np.array(among)
    return near_images(lambda rows: pool[rows], among, evaluation, threshold, **how)


def pairs(leaks):
    return list(zip(leaks.rows_L.tolist(), leaks.of_L.tolist(), strict=True))


def test_the_same_hash_is_a_leak_of_the_first_image_that_has_it():
    leaks = same([5, 6, 7, 2**64 - 1, 5], [7, 9, 5, 2**64 - 1, 5])
    assert pairs(leaks) == [(0, 2), (2, 0), (3, 3), (4, 2)]
    assert np.isnan(leaks.cosine_L).all()


def test_hashes_that_nobody_knows_are_no_leak():
    assert pairs(same([0, 1, 0], [0, 2])) == []


def test_rows_left_out_are_not_looked_at():
    assert pairs(same([5, 5], [5], among=[False, True])) == [(1, 0)]
    assert pairs(near(at(0, 0), at(0), 0.9, among=[False, True])) == [(1, 0)]


def test_a_near_embedding_is_a_leak_of_the_nearest_image():
    leaks = near(at(0, 20, 50, 91), at(3, 21, 90), np.cos(np.deg2rad(10)))
    assert pairs(leaks) == [(0, 0), (1, 1), (3, 2)]
    np.testing.assert_allclose(leaks.cosine_L, np.cos(np.deg2rad([3, 1, 1])), atol=1e-6)
    assert leaks.rows_L.dtype == leaks.of_L.dtype == np.int64
    assert leaks.cosine_L.dtype == np.float32


def test_the_threshold_itself_is_a_leak():
    pool = np.float32([[0.6, 0.8], [0.5999, 0.8]])
    assert pairs(near(pool, np.float32([[1, 0]]), 0.6)) == [(0, 0)]


def test_images_and_rows_without_features_leak_nothing():
    pool, evaluation = at(0, 30, 60), at(0, 30, 60)
    pool[0], evaluation[1] = np.nan, np.nan
    assert pairs(near(pool, evaluation, 0.95)) == [(2, 2)]
    assert pairs(near(pool, evaluation[1:2], 0.95)) == []
    assert pairs(near(pool, evaluation[:0], 0.95)) == []


def test_progress_counts_the_rows_looked_at():
    done = []
    near(at(*range(40)), at(0), 0.5, among=[True] * 30 + [False] * 10, progress=done.append)
    assert sum(done) == 30


@pytest.mark.parametrize("threshold", [0, 1, 2])
def test_a_threshold_that_means_nothing_is_refused_before_anything_is_read(threshold):
    with pytest.raises(ValueError, match="above 0 and below 1"):
        near_images(None, np.ones(3, bool), at(0), threshold)


def test_of_a_row_found_both_ways_the_first_way_is_told():
    by_hash = same([5, 6, 7], [7])
    by_embedding = near(at(0, 50, 90), at(90, 1), 0.99)
    both = by_hash.then(by_embedding)
    assert pairs(both) == [(0, 1), (2, 0)]
    assert np.isnan(both.cosine_L).tolist() == [False, True]
    assert isinstance(both, Leaks)
