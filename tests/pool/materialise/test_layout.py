"""Which row stands where in new shards."""

from collections import Counter
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from selffilter.pool.materialise.layout import (
    cut_by_bytes,
    group_shards,
    lay_out,
    order_in_shard,
)

WEIGHTS = st.lists(st.integers(1, 6), min_size=1, max_size=60)


def laid_out(weights, samples_per_shard=5, seed=0, repeat=False):
    rows = 7 * np.arange(len(weights), dtype=np.int64) + 3
    weights = np.array(weights, dtype=np.int64)
    kwargs = {"samples_per_shard": samples_per_shard, "seed": seed, "repeat": repeat}
    return lay_out(rows, weights, **kwargs), dict(zip(rows.tolist(), weights.tolist(), strict=True))


def shards_of(layout):
    return [layout.rows_E[a:b] for a, b in pairwise(layout.first_S)]


@given(WEIGHTS, st.integers(1, 20), st.integers(0, 2))
def test_each_row_stands_once_with_its_weight_in_equal_shards(weights, per_shard, seed):
    layout, expected = laid_out(weights, per_shard, seed)
    found = dict(zip(layout.rows_E.tolist(), layout.times_E.tolist(), strict=True))
    assert found == expected and len(layout.rows_E) == len(expected)
    sizes = [len(rows) for rows in shards_of(layout)]
    assert len(sizes) == -(-len(weights) // per_shard)
    assert max(sizes) - min(sizes) <= 1 and max(sizes) <= per_shard


@given(WEIGHTS, st.integers(1, 20))
def test_repeated_rows_stand_as_often_as_their_weight_and_spread(weights, per_shard):
    layout, expected = laid_out(weights, per_shard, repeat=True)
    assert Counter(layout.rows_E.tolist()) == expected
    copies = {(r, c) for r, c in zip(layout.rows_E.tolist(), layout.times_E.tolist(), strict=True)}
    assert copies == {(row, c) for row, weight in expected.items() for c in range(weight)}
    for rows in shards_of(layout):
        most = Counter(rows.tolist())
        for row, count in most.items():
            # Never twice where there are enough shards; else as evenly as can be.
            assert count <= -(-expected[row] // layout.shards)


def test_the_order_is_shuffled_by_the_seed_and_depends_on_the_set_of_rows_alone():
    layout, _ = laid_out([1] * 1000, 10)
    other, _ = laid_out([1] * 1000, 10, seed=1)
    assert (layout.rows_E != other.rows_E).any()
    rows = np.arange(1000, dtype=np.int64)
    backwards = lay_out(rows[::-1], rows[::-1] + 1, samples_per_shard=10, seed=0)
    forwards = lay_out(rows, rows + 1, samples_per_shard=10, seed=0)
    np.testing.assert_array_equal(backwards.rows_E, forwards.rows_E)
    np.testing.assert_array_equal(forwards.times_E, forwards.rows_E + 1)
    # Every shard holds rows from all over: of ten, hardly ever eight from one half.
    in_first_half = [(shard < 500).sum() for shard in shards_of(forwards)]
    assert np.mean(np.abs(np.array(in_first_half) - 5) >= 4) < 0.1


def test_copies_that_outnumber_the_shards_do_not_follow_each_other_in_a_shard():
    layout, _ = laid_out([50, *[1] * 50], 100, repeat=True)
    assert layout.shards == 1
    order = order_in_shard(layout.rows_E, 0, seed=0)
    assert sorted(order.tolist()) == list(range(100))
    heavy = layout.rows_E[order] == 3
    assert (heavy[1:] & heavy[:-1]).sum() < 40


@given(st.lists(st.integers(0, 30), min_size=1, max_size=30), st.integers(1, 60), st.integers(1, 4))
def test_groups_hold_all_that_is_to_do_within_the_budget_and_for_all_workers(
    sizes, budget, workers
):
    bytes_S = np.array(sizes, dtype=np.int64)
    todo = np.flatnonzero(bytes_S != 7)
    groups = group_shards(todo, bytes_S, budget, workers)
    assert [s for group in groups for s in group] == todo.tolist()
    for group in groups:
        assert len(group) == 1 or bytes_S[group].sum() <= budget
        assert len(group) <= -(-len(todo) // workers)


@given(st.lists(st.integers(0, 30), max_size=40), st.integers(1, 60))
def test_parts_follow_each_other_and_hold_as_much_as_may_be(sizes, budget):
    parts = cut_by_bytes(np.array(sizes, dtype=np.int64), budget)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(len(sizes)))
    for part in parts:
        assert part.stop - part.start == 1 or sum(sizes[part]) <= budget
        if part.stop < len(sizes):
            assert sum(sizes[part]) + sizes[part.stop] > budget
