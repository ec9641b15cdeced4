"""Subsets as weighted multisets: what Python's Counter says, on columns."""

from collections import Counter
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selffilter.pool.multiset import (
    add,
    ascending_order,
    compare,
    intersect,
    is_ascending,
    minus,
    sample,
    subset_of,
    union,
)

# Few values, so that uids meet; large ones, so that nothing takes them for signed; equal halves, so
# that the first one alone does not decide.
HALVES = st.sampled_from([0, 1, 2, 2**63 - 1, 2**63, 2**64 - 1])
UIDS = st.lists(st.tuples(HALVES, HALVES), max_size=30)
COUNTERS = UIDS.map(Counter)


def array_of(uids):
    return np.array(uids, dtype=np.uint64).reshape(-1, 2)


def subset_with(counter):
    uids = list(counter)
    return subset_of(array_of(uids), np.array([counter[u] for u in uids], dtype=np.int64))


def counter_of(subset):
    pairs = zip(map(tuple, subset.uids_N2.tolist()), subset.weights_N.tolist(), strict=True)
    return Counter(dict(pairs))


@given(UIDS)
def test_a_subset_is_its_uids_ascending_with_how_often_they_stand(uids):
    subset = subset_of(array_of(uids))
    assert counter_of(subset) == Counter(uids)
    assert list(map(tuple, subset.uids_N2.tolist())) == sorted(set(uids))
    assert len(subset) == len(set(uids)) and subset.samples == len(uids)


@given(st.lists(st.tuples(st.tuples(HALVES, HALVES), st.integers(0, 5)), max_size=20))
def test_weights_of_one_uid_add_up_and_those_of_nought_are_left_out(pairs):
    weights = np.array([w for _, w in pairs], dtype=np.int64)
    found = counter_of(subset_of(array_of([u for u, _ in pairs]), weights))
    assert found == +sum((Counter({u: w}) for u, w in pairs), Counter())


@given(st.lists(COUNTERS, min_size=1, max_size=4))
def test_each_operation_is_counters_own(counters):
    subsets = [subset_with(c) for c in counters]
    for operation, expected in (
        (intersect, reduce(lambda a, b: a & b, counters)),
        (union, reduce(lambda a, b: a | b, counters)),
        (add, reduce(lambda a, b: a + b, counters)),
        (minus, reduce(lambda a, b: a - b, counters)),
    ):
        found = operation(subsets)
        assert counter_of(found) == expected, operation.__name__
        assert is_ascending(found.uids_N2)


@given(UIDS)
def test_the_order_is_lexsorts_but_among_equals(uids):
    array = array_of(uids)
    order = ascending_order(array)
    assert sorted(order) == list(range(len(uids)))
    np.testing.assert_array_equal(array[order], array[np.lexsort((array[:, 1], array[:, 0]))])
    assert is_ascending(array) == (uids == sorted(uids))


@given(st.lists(COUNTERS, min_size=1, max_size=3))
def test_overlap_and_jaccard_count_samples(counters):
    found = compare([subset_with(c) for c in counters])
    assert found.uids_K.tolist() == [len(c) for c in counters]
    assert found.samples_K.tolist() == [c.total() for c in counters]
    for i, a in enumerate(counters):
        for j, b in enumerate(counters):
            common, either = (a & b).total(), (a | b).total()
            assert found.overlap_KK[i, j] == common
            assert found.jaccard_KK[i, j] == (common / either if either else 1.0)


@given(COUNTERS, st.integers(0, 40), st.integers(0, 3))
def test_a_sample_is_so_large_and_part_of_the_whole_and_of_larger_ones(counter, count, seed):
    subset = subset_with(counter)
    if count > counter.total():
        with pytest.raises(ValueError, match="without replacement"):
            sample(subset, count, seed)
        return
    drawn = counter_of(sample(subset, count, seed))
    assert drawn.total() == count and drawn <= counter
    if count < counter.total():
        assert drawn <= counter_of(sample(subset, count + 1, seed))


def test_a_sample_is_uniform_over_samples_and_depends_on_the_seed_and_not_on_other_uids():
    rng = np.random.default_rng(0)
    uids = rng.integers(0, 2**64, (4000, 2), dtype=np.uint64)
    weights = np.where(np.arange(4000) < 2000, 1, 3).astype(np.int64)
    subset = subset_of(uids, weights)
    drawn = sample(subset, 4000, seed=1)
    heavy = intersect([drawn, subset_of(np.repeat(uids[2000:], 3, axis=0))]).samples
    assert abs(heavy / 4000 - 0.75) < 0.03  # four standard deviations
    other = sample(subset, 4000, seed=2)
    assert 0.4 < intersect([drawn, other]).samples / 4000 < 0.65  # a half, and weights help
    half = subset_of(uids[:3000], weights[:3000])
    both = intersect([sample(half, 2000, seed=1), drawn]).samples
    assert both > 1600  # of what is drawn from a part, most is drawn from the whole too
