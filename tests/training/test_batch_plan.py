from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from selffilter.errors import UserError
from selffilter.training.batch_plan import BatchPlan, WholeBase, exposures


class InMemory:
    """Weighted rows in shards; remembers which shards it was asked for."""

    def __init__(self, weights_of_shards):
        self.asked = []
        ends = np.cumsum([0, *map(len, weights_of_shards)])
        self._rows = [np.arange(a, b) for a, b in pairwise(ends)]
        self._weights = [np.array(w, dtype=np.int64) for w in weights_of_shards]
        top = max((int(w.max()) for w in self._weights if len(w)), default=0)
        self.counts_PS = np.array(
            [[int((w > p).sum()) for w in self._weights] for p in range(top)], dtype=np.int64
        ).reshape(top, len(weights_of_shards))

    def rows(self, shard, pass_):
        self.asked.append(shard)
        return self._rows[shard][self._weights[shard] > pass_]

    def above(self, pass_):
        """Return all rows of weight above `pass_`, the plain way."""
        weights = np.concatenate(self._weights)
        return set(np.flatnonzero(weights > pass_).tolist())


SHARDS = st.lists(st.lists(st.integers(0, 3), max_size=14), min_size=1, max_size=7)
SEEDS = st.integers(0, 2**31)


def make_plan(weights, batch, seed=0, round_=0, window=64):
    return BatchPlan(InMemory(weights), batch, seed, round_, window)


def any_plan(weights, *args, **kwargs):
    """Make a plan of drawn arguments; those that do not fill a batch are drawn again."""
    try:
        return make_plan(weights, *args, **kwargs)
    except UserError:
        reject()


def batches(plan, count):
    return [plan.batch(step).tolist() for step in range(count)]


@given(SHARDS, st.integers(1, 12), SEEDS, st.integers(1, 3))
@settings(max_examples=150)
def test_a_pass_is_made_of_the_rows_above_its_weight_each_once_but_for_less_than_a_batch(
    weights, batch, seed, window
):
    plan = any_plan(weights, batch, seed, window=window)
    rows = InMemory(weights)
    for epoch in range(2):
        step = epoch * plan.batches_per_epoch
        for pass_, count in enumerate(plan.batches_P):
            met = [row for s in range(step, step + count) for row in plan.batch(s).tolist()]
            step += count
            expected = rows.above(pass_)
            assert len(met) == len(set(met))
            assert set(met) <= expected
            assert 0 <= len(expected) - len(met) < batch
        assert step == (epoch + 1) * plan.batches_per_epoch


@given(SHARDS, st.integers(1, 12), SEEDS)
@settings(max_examples=100)
def test_every_global_batch_has_the_same_size_and_no_row_twice(weights, batch, seed):
    plan = any_plan(weights, batch, seed, window=1)
    for rows in batches(plan, 2 * plan.batches_per_epoch + 1):
        assert len(rows) == batch
        assert len(set(rows)) == batch


@given(SHARDS, SEEDS, st.sampled_from([1, 2, 4, 8]))
@settings(max_examples=60)
def test_the_parts_of_any_number_of_ranks_make_up_the_same_global_batch(weights, seed, ranks):
    plan = any_plan(weights, 8, seed, window=1)
    for step in range(plan.batches_per_epoch + 1):
        parts = [plan.rank_batch(step, rank, ranks) for rank in range(ranks)]
        assert [len(part) for part in parts] == [8 // ranks] * ranks
        np.testing.assert_array_equal(np.concatenate(parts), plan.batch(step))


def test_nodes_share_few_shards():
    plan = make_plan([[1] * 100 for _ in range(40)], 200, window=20)
    shards_of = [set(), set(), set(), set()]
    for step in range(20):
        for node in range(4):
            shards_of[node] |= set((plan.rank_batch(step, node, 4) // 100).tolist())
    # Each node has a quarter of the shards, and some at the borders; by chance it would be all 40.
    assert sum(map(len, shards_of)) <= 60
    assert set.union(*shards_of) == set(range(40))


@given(SHARDS, st.integers(1, 12), SEEDS, st.integers(1, 3), st.integers(0, 9), st.integers(0, 30))
def test_stretches_cut_the_steps_where_windows_begin(weights, batch, seed, window, first, steps):
    plan = any_plan(weights, batch, seed, window=window)
    stretches = list(plan.stretches(first, first + steps))
    assert [step for stretch in stretches for step in stretch] == list(range(first, first + steps))
    assert all(stretches)
    # Of all cuts these are the ones before a batch that begins in another window.
    cuts = {stretch.start for stretch in stretches[1:]}
    for step in range(first + 1, first + steps):
        assert (plan._window_of(step) != plan._window_of(step - 1)) == (step in cuts)


@given(SHARDS, st.integers(1, 12), SEEDS, st.integers(1, 3), st.data())
@settings(max_examples=100)
def test_any_batch_computed_by_itself_is_the_one_met_in_sequence(
    weights, batch, seed, window, data
):
    plan = any_plan(weights, batch, seed, 3, window)
    met = batches(plan, 2 * plan.batches_per_epoch)
    step = data.draw(st.integers(0, len(met) - 1))
    assert make_plan(weights, batch, seed, 3, window).batch(step).tolist() == met[step]


@given(SHARDS, st.integers(1, 12), SEEDS, st.integers(0, 40))
@settings(max_examples=100)
def test_exposures_are_those_counted_batch_by_batch(weights, batch, seed, steps):
    plan = any_plan(weights, batch, seed, window=1)
    counted = Counter(row for rows in batches(plan, steps) for row in rows)
    rows, times = exposures(plan, steps)
    assert dict(zip(rows.tolist(), times.tolist(), strict=True)) == counted
    assert (np.diff(rows) > 0).all()
    in_order = [row for part in plan.consumed(steps) for row in part.tolist()]
    for step, rows in enumerate(batches(plan, steps)):
        assert sorted(in_order[step * batch : (step + 1) * batch]) == sorted(rows)


def test_a_row_of_weight_m_is_met_m_times_in_an_epoch_without_a_tail():
    weights = [[1, 3, 1, 3], [3, 1, 2, 2], [2, 2, 1, 3]]  # 12 rows, 8 above 1, 4 above 2
    plan = make_plan(weights, 4)
    rows, times = exposures(plan, plan.batches_per_epoch)
    assert rows.tolist() == list(range(12))
    assert times.tolist() == [w for shard in weights for w in shard]


def test_seeds_rounds_epochs_and_passes_have_orders_of_their_own():
    weights = [[2] * 25] * 8
    epoch = 20 * 2
    plan = make_plan(weights, 10, seed=1, round_=1)
    orders = {
        "first": batches(plan, 20),
        "another pass": batches(plan, 40)[20:],
        "another epoch": [plan.batch(epoch + s).tolist() for s in range(20)],
        "another seed": batches(make_plan(weights, 10, seed=2, round_=1), 20),
        "another round": batches(make_plan(weights, 10, seed=1, round_=2), 20),
        "as they lie": np.arange(200).reshape(20, 10).tolist(),
    }
    assert plan.batches_per_epoch == epoch
    for name, order in orders.items():
        flat = np.concatenate(order)
        assert sorted(flat.tolist()) == list(range(200))
        for other_name, other in orders.items():
            if name != other_name:
                # By chance about one place in 200 agrees.
                assert (flat == np.concatenate(other)).sum() < 10, (name, other_name)


def test_shards_too_are_met_in_an_order_of_each_epoch_pass_round_and_seed():
    weights = [[2] * 8] * 30  # a window is one shard and one batch

    def shards_met(first, seed=0, round_=0):
        plan = make_plan(weights, 8, seed, round_, window=1)
        return tuple(int(plan.batch(first + i)[0]) // 8 for i in range(30))

    orders = [shards_met(0), shards_met(30), shards_met(60), shards_met(0, 1), shards_met(0, 0, 1)]
    assert all(sorted(order) == list(range(30)) for order in orders)
    assert len({tuple(range(30)), *orders}) == 6


def test_a_batch_asks_only_for_the_shards_of_its_window():
    weights = [[1] * 16] * 100  # a window of 4 batches of 8 is two shards
    for step in (0, 77, 199):
        plan = make_plan(weights, 8, window=4)
        plan.batch(step)
        assert len(set(plan._rows.asked)) == len(plan._rows.asked) == 2


def test_a_walk_asks_for_each_shard_once_and_keeps_none_but_the_last_windows():
    plan = make_plan([[1] * 16] * 100, 8, window=4)
    batches(plan, plan.batches_per_epoch)
    assert sorted(plan._rows.asked) == list(range(100))
    plan.batch(plan.batches_per_epoch - 1)
    assert len(plan._rows.asked) == 100  # the last window is still there
    plan.batch(0)
    assert len(plan._rows.asked) == 102  # the first is not


def test_a_window_mixes_its_shards():
    plan = make_plan([[1] * 64] * 8, 32, window=16)  # all shards in one window
    for rows in batches(plan, 16):
        assert len({row // 64 for row in rows}) >= 5


def test_rows_that_do_not_fill_a_batch_are_refused_with_their_number():
    with pytest.raises(UserError, match=r"^3 rows .* one batch of 4"):
        BatchPlan(InMemory([[1, 0], [2, 1]]), 4, seed=0, round_=0)
    with pytest.raises(UserError, match=r"^0 rows"):
        BatchPlan(InMemory([[0, 0], []]), 1, seed=0, round_=0)


def test_the_whole_base_is_one_pass_over_it_each_row_as_often_as_its_weight():
    class Base:
        def __init__(self, *weights):
            self._weights = [np.array(w, np.int32) for w in weights]
            self.counts_PS = np.array(
                [[int((w > p).sum()) for w in self._weights] for p in (0, 1, 2)]
            )

        def weighted_rows(self, shard):
            rows = [np.array([0, 2, 5]), np.array([], int), np.array([8, 9])][shard]
            return rows, self._weights[shard]

    plan = BatchPlan(WholeBase(Base([1, 1, 1], [], [1, 1])), 5, seed=0, round_=0)
    assert plan.batches_P.tolist() == [1, 0, 0]
    assert sorted(plan.batch(0).tolist()) == [0, 2, 5, 8, 9]

    plan = BatchPlan(WholeBase(Base([1, 3, 1], [], [1, 2])), 1, seed=0, round_=0)
    assert plan.rows_P.tolist() == [5, 2, 1]
    met = sorted(int(plan.batch(step)[0]) for step in range(plan.batches_per_epoch))
    assert met == [0, 2, 2, 2, 5, 8, 9, 9]


@given(SHARDS, st.integers(1, 12), SEEDS, st.integers(1, 3), st.integers(0, 40))
@settings(max_examples=200)
def test_for_a_few_rows_the_exposures_are_known_without_the_others(
    weights, batch, seed, window, steps
):
    plan = any_plan(weights, batch, seed, window=window)
    weight = np.concatenate([np.array(w, np.int64) for w in weights])
    rows = np.arange(len(weight))
    shard = np.repeat(np.arange(len(weights)), [len(w) for w in weights])
    met, times = exposures(plan, steps)
    expected = np.zeros(len(rows), np.int64)
    expected[met] = times
    chosen = rows[seed % 3 :: 2]
    found = plan.times(chosen, shard[chosen], weight[chosen], steps)
    assert found.tolist() == expected[chosen].tolist()


def test_of_passes_that_are_over_no_rows_are_read_to_tell_exposures():
    rows = InMemory([[2, 2, 2, 2], [1, 1, 1, 1]])
    plan = BatchPlan(rows, 4, 0, 0, window_batches=1)
    every = np.arange(8)
    # An epoch: a pass over 8 rows, and one over the 4 of weight 2.
    assert plan.times(every, every // 4, np.repeat([2, 1], 4), 6).tolist() == [4] * 4 + [2] * 4
    assert rows.asked == []
