"""Of rows with the same image, or nearly the same, the best one stays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selffilter.selecting import duplicates, hashes
from selffilter.selecting.duplicates import Duplicates, exact_duplicates, near_duplicates

NAN = float("nan")


def merits(*values):
    return np.array(values, np.float32)


def uids_by_row(rows):
    return np.stack([np.zeros(len(rows)), rows], axis=1).astype(np.uint64)


def exact(hashes_, merit, among=None, uids_of=uids_by_row):
    among = np.ones(len(hashes_), bool) if among is None else np.array(among)
    return exact_duplicates(np.array(hashes_, np.uint64), merits(*merit), among, uids_of)


def near(features, merit, threshold, codes=None, among=None, uids_of=uids_by_row, **how):
    features = np.asarray(features, np.float32)
    codes = np.zeros(len(features), np.int32) if codes is None else np.array(codes, np.int32)
    among = np.ones(len(features), bool) if among is None else np.array(among)
    of = lambda rows: features[rows]  # noqa: E731
    return near_duplicates(codes, merits(*merit), among, uids_of, of, threshold, **how)


def pairs(found):
    assert found.rows_R.dtype == found.of_R.dtype == np.int64
    return list(zip(found.rows_R.tolist(), found.of_R.tolist(), strict=True))


def at(*degrees):
    """Features in a plane: the cosine of two is that of the angle between them."""
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


COS_10 = np.cos(np.deg2rad(10.5))
"""Rows up to ten degrees apart are near-duplicates."""


def slowly(codes, merit, among, uids, alike):
    """The rule as it is written, a row at a time."""
    order = sorted(
        np.flatnonzero(among).tolist(),
        key=lambda row: (-merit[row] if np.isfinite(merit[row]) else np.inf, *uids[row], row),
    )
    stays, found = [], {}
    for row in order:
        stands = [s for s in stays if codes[s] == codes[row] != -1 and alike(s, row)]
        if stands:
            found[row] = stands[0]
        else:
            stays.append(row)
    return sorted(found.items())


# --- the same image ---------------------------------------------------------------------------


def test_of_one_hash_the_best_row_stays():
    assert pairs(exact([7, 8, 7, 7, 9], [0.1, 0.5, 0.9, 0.2, 0.3])) == [(0, 2), (3, 2)]


def test_a_hash_of_zero_is_not_known_and_no_duplicate():
    assert pairs(exact([0, 0, 0, 5], [1, 2, 3, 4])) == []


def test_a_row_without_merit_is_the_worst():
    assert pairs(exact([4, 4, 4], [NAN, -9, NAN])) == [(0, 1), (2, 1)]


def test_ties_go_by_uid_and_then_by_row():
    uids = np.array([[5, 1], [5, 0], [4, 9], [4, 9]], np.uint64)
    found = exact([3, 3, 3, 3], [1, 1, 1, 1], uids_of=lambda rows: uids[rows])
    assert pairs(found) == [(0, 2), (1, 2), (3, 2)]
    found = exact([3, 3, 3, 3], [NAN, NAN, 0, NAN], uids_of=lambda rows: uids[rows])
    assert pairs(found) == [(0, 2), (1, 2), (3, 2)]


def test_only_rows_that_tie_are_asked_for_their_uids():
    asked = []

    def uids_of(rows):
        asked.extend(rows.tolist())
        return uids_by_row(rows)

    exact([1, 1, 2, 2, 3, 4], [0.5, 0.6, 0.7, 0.7, 0.1, 0.1], uids_of=uids_of)
    assert sorted(asked) == [2, 3]


def test_rows_left_out_neither_stay_nor_go():
    assert pairs(exact([6, 6, 6], [3, 2, 1], among=[False, True, True])) == [(2, 1)]
    assert pairs(exact([6, 6, 6], [3, 2, 1], among=[False, False, True])) == []


@given(hashes_=st.lists(st.sampled_from([0, 1, 2, 2**63, 2**64 - 1]), max_size=40), data=st.data())
def test_exact_duplicates_are_those_of_the_rule(hashes_, data):
    size = len(hashes_)
    merit = data.draw(st.lists(st.sampled_from([0.0, 1.0, NAN]), min_size=size, max_size=size))
    among = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    uids = np.array(
        data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size)), np.uint64
    )[:, None] * np.ones(2, np.uint64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashes, "_TABLE_BITS", 10)  # 128 MiB are much for so few
        patch.setattr(hashes, "chunks", lambda count: duplicates.chunks(count, 7))
        among_N = np.array(among, bool)
        found = exact(hashes_, merit, among=among_N, uids_of=lambda rows: uids[rows])
    known = [-1 if hash_ == 0 else hash_ for hash_ in hashes_]
    assert pairs(found) == slowly(known, merit, among_N, uids.tolist(), lambda s, row: True)


# --- nearly the same image --------------------------------------------------------------------


def test_near_a_better_row_a_row_goes():
    assert pairs(near(at(0, 5, 90, 97), [0.1, 0.9, 0.5, 0.4], COS_10)) == [(0, 1), (3, 2)]


def test_a_chain_of_small_steps_removes_only_what_is_near_to_a_row_that_stays():
    # 0 is the best and takes 8; 16 is near to 8 alone, which has gone, and so it stays.
    assert pairs(near(at(0, 8, 16), [3, 2, 1], COS_10)) == [(1, 0)]
    # The one in the middle is the best: it stands for both.
    assert pairs(near(at(0, 8, 16), [1, 3, 2], COS_10)) == [(0, 1), (2, 1)]


def test_a_row_that_several_stay_for_is_given_to_the_best_of_them():
    # 9 is nearer to 12 than to 0, which is better.
    assert pairs(near(at(0, 12, 9), [3, 2, 1], COS_10)) == [(2, 0)]


def test_rows_of_different_clusters_and_of_none_are_not_compared():
    same = at(0, 0, 0, 0, 0)
    assert pairs(near(same, [5, 4, 3, 2, 1], COS_10, codes=[0, 1, 0, -1, -1])) == [(2, 0)]


def test_rows_left_out_or_without_features_are_not_compared():
    features = at(0, 1, 2, 3)
    features[1] = np.nan
    found = near(features, [4, 3, 2, 1], COS_10, among=[False, True, True, True])
    assert pairs(found) == [(3, 2)]


def test_equal_merits_go_by_uid():
    uids = np.array([[1, 3], [1, 2], [1, 4]], np.uint64)
    found = near(at(0, 0, 0), [NAN, NAN, NAN], COS_10, uids_of=lambda rows: uids[rows])
    assert pairs(found) == [(0, 1), (2, 1)]


@pytest.mark.parametrize("threshold", [0, 1, -0.5, 1.5, NAN])
def test_a_threshold_that_means_nothing_is_refused(threshold):
    with pytest.raises(ValueError, match="above 0 and below 1"):
        near(at(0, 1), [1, 2], threshold)


@given(
    seed=st.integers(0, 10_000),
    rows_at_once=st.sampled_from([1, 3, 10, 1000]),
    side=st.sampled_from([1, 4, 100]),
)
def test_near_duplicates_are_those_of_the_rule_in_any_blocks(seed, rows_at_once, side):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(0, 60))
    features = at(*rng.integers(0, 120, size).tolist()).reshape(-1, 2)
    codes = rng.integers(-1, 3, size)
    merit = rng.choice([0.0, 1.0, 2.0, NAN], size)
    among = rng.random(size) < 0.9
    uids = rng.integers(0, 3, (size, 2)).astype(np.uint64)
    asked, done = [0], []

    def features_of(rows):
        asked.append(len(rows))
        return features[rows]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_SIDE", side)
        found = near_duplicates(
            codes.astype(np.int32),
            merit.astype(np.float32),
            among,
            lambda rows: uids[rows],
            features_of,
            COS_10,
            rows_at_once=rows_at_once,
            progress=done.append,
        )
    exact_cosine = features.astype(np.float64) @ features.T.astype(np.float64)
    expected = slowly(
        codes, merit, among, uids.tolist(), lambda s, row: exact_cosine[s, row] >= COS_10
    )
    assert pairs(found) == expected
    assert max(asked) <= rows_at_once
    assert sum(done) == (among & (codes >= 0)).sum()


def test_clusters_that_fit_are_read_together_and_each_row_once():
    asked = []

    def features_of(rows):
        asked.append(rows)
        return at(*rows.tolist())

    codes = np.array([0, 1, 2, 0, 1, 2, 0, 3], np.int32)
    every, merit = np.ones(8, bool), np.zeros(8, np.float32)
    near_duplicates(codes, merit, every, uids_by_row, features_of, 0.5, rows_at_once=5)
    assert [sorted(rows.tolist()) for rows in asked] == [[0, 1, 3, 4, 6], [2, 5, 7]]


# --- one after the other ----------------------------------------------------------------------


def test_what_stood_for_a_row_and_goes_later_is_replaced_by_what_stands_for_that():
    first = exact([7, 7, 8, 9, 9], [1, 2, 3, 4, 5])
    assert pairs(first) == [(0, 1), (3, 4)]
    left = np.ones(5, bool)
    left[first.rows_R] = False
    second = near(at(0, 0, 5, 90, 90), [1, 2, 3, 4, 5], COS_10, among=left)
    assert pairs(second) == [(1, 2)]
    assert pairs(first.then(second)) == [(0, 2), (1, 2), (3, 4)]
    assert pairs(Duplicates.none().then(second)) == pairs(second.then(Duplicates.none()))
