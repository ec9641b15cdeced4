import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selffilter.selecting.bias import (
    UNKNOWN_NAME,
    SelectionRates,
    least_and_most,
    selection_rates,
    vanishing,
)
from selffilter.selecting.groups import Groups

POOLS = st.integers(1, 80).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(-1, 4), min_size=n, max_size=n),
        st.lists(st.sampled_from(["no base", "base", "selected"]), min_size=n, max_size=n),
        st.lists(st.integers(1, 5), min_size=n, max_size=n),
    )
)


def rates_of(base, selected, samples=None, names=None):
    """Make rates from counts; the last number is that of unknown rows."""
    names = names or [f"g{i}" for i in range(len(base) - 1)]
    counts = [np.array(x, np.int64) for x in (base, selected, samples or selected)]
    return SelectionRates("cluster", names, *counts)


def rates_of_pool(pool):
    codes, states, weights = pool
    groups = Groups("cluster", np.array(codes, np.int32), list("abcde"))
    selected = np.array(states) == "selected"
    base = np.array(states) != "no base"
    weights = np.where(selected, weights, 0).astype(np.uint16)
    return selection_rates(groups, base, selected, weights), selected, base, weights


class TestRates:
    def test_are_relative_to_the_overall_rate(self):
        rates = rates_of([100, 300, 0, 100], [40, 30, 0, 30], [40, 60, 0, 100])
        assert rates.overall_rate == 0.2
        assert rates.base_share_G.tolist() == [0.2, 0.6, 0, 0.2]
        assert rates.relative_rate_G[[0, 1, 3]] == pytest.approx([2, 0.5, 1.5])
        assert rates.relative_samples_G[[0, 1, 3]] == pytest.approx([1, 0.5, 2.5])
        assert math.isnan(rates.relative_rate_G[2])

    @given(POOLS)
    def test_count_every_row_once_and_average_to_the_overall_rate(self, pool):
        rates, selected, base, weights = rates_of_pool(pool)
        assert rates.base_G.sum() == base.sum()
        assert rates.selected_G.sum() == selected.sum()
        assert rates.samples_G.sum() == weights.sum()
        if selected.any():
            average = np.nansum(rates.base_share_G * rates.relative_rate_G)
            assert average == pytest.approx(1)
            assert np.nansum(rates.base_share_G * rates.relative_samples_G) == pytest.approx(1)

    @given(POOLS)
    def test_are_the_same_from_row_numbers(self, pool):
        rates, selected, base, weights = rates_of_pool(pool)
        groups = Groups("cluster", np.array(pool[0], np.int32), list("abcde"))
        rows = np.flatnonzero(selected)
        again = selection_rates(groups, base, rows, weights[rows])
        assert again.table().equals(rates.table())
        once = selection_rates(groups, base, rows)
        assert once.samples_G.tolist() == rates.selected_G.tolist()

    def test_have_the_error_of_a_binomial(self):
        rng = np.random.default_rng(0)
        drawn = rng.binomial(400, 0.3, size=2000)
        spread = np.std(
            [rates_of([400, 100_000, 0], [k, 30_000, 0]).relative_rate_G[0] for k in drawn]
        )
        error = rates_of([400, 100_000, 0], [120, 30_000, 0]).standard_error_G[0]
        assert error == pytest.approx(spread, rel=0.06)

    def test_of_none_of_three_rows_are_not_certain(self):
        rates = rates_of([3, 1000, 0], [0, 300, 0])
        assert rates.relative_rate_G[0] == 0
        assert rates.standard_error_G[0] > 0.3

    def test_are_a_table_with_a_line_for_the_unknown(self):
        table = rates_of([10, 0, 5], [5, 0, 0], names=["en", "fr"]).table()
        assert table["group"].to_pylist() == ["en", UNKNOWN_NAME]
        assert table["base"].to_pylist() == [10, 5]
        assert table["relative_rate"].to_pylist() == pytest.approx([1.5, 0])
        assert set(table.column_names) >= {"selected", "samples", "base_share", "standard_error"}

    def test_of_rows_outside_the_base_are_refused(self):
        groups = Groups("source", np.zeros(4, np.int32), ["a"])
        with pytest.raises(ValueError, match="source"):
            selection_rates(groups, np.array([1, 0, 0, 0], bool), np.array([1, 1, 0, 0], bool))


class TestCoverageAndEntropy:
    @given(POOLS)
    def test_are_shares(self, pool):
        rates, *_ = rates_of_pool(pool)
        for value in (
            rates.coverage,
            rates.coverage_by_lot,
            rates.coverage_ratio,
            rates.entropy_ratio,
        ):
            assert math.isnan(value) or 0 <= value <= 1 + 1e-12

    def test_a_selection_in_proportion_is_spread_over_all_of_the_base(self):
        rates = rates_of([1000, 200, 50, 9], [500, 100, 25, 0])
        assert rates.coverage == 1
        assert rates.entropy_ratio == pytest.approx(1)

    def test_a_selection_of_some_groups_is_spread_over_their_share_of_the_base(self):
        rates = rates_of([3000, 2000, 5000, 0], [1500, 1000, 0, 0])
        assert rates.entropy_ratio == pytest.approx(0.5, abs=1e-3)
        assert rates.coverage == pytest.approx(2 / 3)
        assert rates.coverage_ratio == pytest.approx(2 / 3)

    def test_what_is_unknown_is_no_group(self):
        known, more = rates_of([50, 50, 0], [9, 3, 0]), rates_of([50, 50, 70], [9, 3, 60])
        assert known.coverage == more.coverage
        assert known.entropy_ratio == pytest.approx(more.entropy_ratio)

    def test_few_rows_drawn_by_lot_over_many_groups_do_not_look_like_a_collapse(self):
        rng = np.random.default_rng(0)
        codes = rng.integers(0, 500, 20_000).astype(np.int32)
        groups = Groups("cluster", codes, [str(i) for i in range(500)])
        rows = rng.choice(20_000, 800, replace=False)
        rates = selection_rates(groups, np.ones(20_000, bool), rows)
        assert rates.coverage < 0.85
        assert rates.coverage_ratio > 0.95
        assert rates.entropy_ratio > 0.9

    def test_of_nothing_are_unknown(self):
        nothing = rates_of([0, 0, 5], [0, 0, 1])
        assert math.isnan(nothing.coverage) and math.isnan(nothing.entropy_ratio)
        assert math.isnan(rates_of([5, 5, 0], [0, 0, 0]).entropy_ratio)
        assert math.isnan(rates_of([5, 5, 0], [0, 0, 0]).coverage_ratio)


class TestNaming:
    def test_the_least_and_the_most_selected_by_how_sure_that_is(self):
        rates = rates_of(
            [10_000, 2, 10_000, 10_000, 0],
            [1000, 0, 3000, 5000, 0],
            names=["rare", "tiny", "average", "frequent"],
        )
        least, most = least_and_most(rates)
        assert [rate.group for rate in least] == ["rare"]
        assert [rate.group for rate in most] == ["frequent"]
        assert most[0].relative_rate == pytest.approx(5 / 3, rel=1e-3)
        assert (least[0].base, least[0].selected) == (10_000, 1000)

    def test_no_more_than_so_many_are_named(self):
        rates = rates_of([1000] * 50 + [0], [0] * 25 + [500] * 25 + [0])
        least, most = least_and_most(rates, 3)
        assert len(least) == len(most) == 3
        assert all(rate.relative_rate < 1 for rate in least)

    def test_a_uniform_draw_names_nobody(self):
        assert least_and_most(rates_of([1000, 500, 0], [300, 150, 0])) == ([], [])


class TestVanishing:
    BASE = (5000, 5000, 40, 0)

    def rounds(self, *selected):
        return [rates_of(self.BASE, [*row, 0], names=["a", "b", "few"]) for row in selected]

    def test_names_a_group_that_is_hardly_selected_any_more(self):
        found = vanishing(self.rounds((900, 1100, 8), (300, 1700, 8), (40, 1960, 8)))
        assert [group.group for group in found] == ["a"]
        assert found[0].relative_rates == pytest.approx([0.9, 0.3, 0.04], abs=0.02)
        assert found[0].rounds == 1
        assert found[0].base == 5000

    def test_counts_the_rounds_that_it_has_been_so(self):
        rounds = self.rounds((40, 1960, 8), (900, 1100, 8), (80, 1960, 8), (60, 1960, 8))
        assert vanishing(rounds)[0].rounds == 2

    def test_a_group_that_recovers_is_not_named(self):
        assert vanishing(self.rounds((0, 2000, 8), (150, 1850, 8))) == []

    def test_a_group_that_is_too_small_to_be_sure_of_is_not_named(self):
        assert vanishing(self.rounds((1000, 1000, 0))) == []  # 8 of 40 were to be expected
        assert vanishing(self.rounds((1000, 1000, 0)), below=0.9)[0].group == "few"

    def test_among_many_groups_chance_names_none(self):
        base = np.full(2001, 40)
        for seed in range(5):
            selected = np.random.default_rng(seed).binomial(base, 0.2)
            assert vanishing([rates_of(base, selected)], below=0.9) == []

    def test_the_largest_come_first_and_no_more_than_so_many(self):
        rates = rates_of([1000, 3000, 2000, 50_000, 0], [0, 0, 0, 10_000, 0])
        assert [group.group for group in vanishing([rates])] == ["g1", "g2", "g0"]
        assert len(vanishing([rates], most=2)) == 2

    def test_without_a_round_there_are_none_and_rounds_must_agree(self):
        assert vanishing([]) == []
        with pytest.raises(ValueError, match="different groups"):
            vanishing([rates_of([5, 5, 0], [1, 1, 0]), rates_of([5, 0], [1, 0])])
