"""Statistics over seeds, against numbers computed by hand."""

from __future__ import annotations

import math

import pytest

from selffilter.experiments.analysis import (
    gap_closed,
    paired_difference,
    spread,
)

UNIFORM = {0: 0.10, 1: 0.12, 2: 0.08, 3: 0.10, 4: 0.10}
ORACLE = {0: 0.20, 1: 0.22, 2: 0.18, 3: 0.21, 4: 0.19}
LOOP = {0: 0.14, 1: 0.16, 2: 0.13, 3: 0.14, 4: 0.13}


def test_spread_is_mean_and_sample_standard_deviation() -> None:
    found = spread({0: 1.0, 1: 2.0, 2: 6.0})
    assert (found.seeds, found.mean) == (3, 3.0)
    assert found.sd == pytest.approx(math.sqrt(7))
    assert math.isnan(spread({0: 1.0}).sd)


def test_a_paired_difference_takes_the_seeds_that_both_have() -> None:
    found = paired_difference(LOOP | {9: 5.0}, UNIFORM, resamples=1000)
    differences = [0.04, 0.04, 0.05, 0.04, 0.03]
    error = math.sqrt(sum((d - 0.04) ** 2 for d in differences) / 4) / math.sqrt(5)
    assert found.seeds == 5
    assert found.mean == pytest.approx(0.04)
    assert found.standard_error == pytest.approx(error)
    assert found.t_interval[0] == pytest.approx(0.04 - 2.77645 * error, rel=1e-4)
    assert found.t_interval[1] == pytest.approx(0.04 + 2.77645 * error, rel=1e-4)


def test_pairing_takes_out_what_a_seed_does_to_both() -> None:
    shift = {0: 0.0, 1: 5.0, 2: -3.0, 3: 9.0, 4: 1.0}
    plain = paired_difference(LOOP, UNIFORM, resamples=500)
    shifted = paired_difference(
        {s: LOOP[s] + shift[s] for s in LOOP}, {s: UNIFORM[s] + shift[s] for s in LOOP}, 500
    )
    assert shifted.standard_error == pytest.approx(plain.standard_error)
    assert shifted.bootstrap_interval == pytest.approx(plain.bootstrap_interval)


def test_the_bootstrap_is_the_same_each_time_and_covers_the_mean() -> None:
    first = paired_difference(LOOP, UNIFORM, resamples=2000).bootstrap_interval
    assert first == paired_difference(LOOP, UNIFORM, resamples=2000).bootstrap_interval
    assert 0.03 <= first[0] < 0.04 < first[1] <= 0.05


def test_the_bootstraps_width_is_that_of_the_resampled_mean() -> None:
    # Differences 0 and 1, half each: the mean of n resamples has sd 0.5 / sqrt(n).
    seeds = range(100)
    found = paired_difference({s: float(s % 2) for s in seeds}, dict.fromkeys(seeds, 0.0), 4000)
    low, high = found.bootstrap_interval
    assert low == pytest.approx(0.5 - 1.96 * 0.05, abs=0.015)
    assert high == pytest.approx(0.5 + 1.96 * 0.05, abs=0.015)


def test_with_three_seeds_there_is_no_bootstrap_interval_but_one_by_t() -> None:
    three = {s: LOOP[s] for s in (0, 1, 2)}
    found = paired_difference(three, UNIFORM, resamples=1000)
    assert all(map(math.isnan, found.bootstrap_interval))
    assert found.t_interval[0] < found.mean < found.t_interval[1]


def test_one_seed_has_a_difference_and_no_interval() -> None:
    found = paired_difference({0: 0.3}, {0: 0.1}, resamples=1000)
    assert found.mean == pytest.approx(0.2)
    assert math.isnan(found.standard_error)
    assert all(map(math.isnan, found.t_interval + found.bootstrap_interval))


def test_methods_without_a_common_seed_have_no_difference() -> None:
    found = paired_difference({0: 0.3}, {1: 0.1}, resamples=1000)
    assert found.seeds == 0
    assert math.isnan(found.mean)


def test_the_gap_closed_is_a_ratio_of_means() -> None:
    found = gap_closed(LOOP, UNIFORM, ORACLE, resamples=2000)
    assert found.gap == pytest.approx(0.10)
    assert found.share == pytest.approx(0.04 / 0.10)
    assert found.bootstrap_interval[0] < found.share < found.bootstrap_interval[1]
    assert found.bootstrap_interval[0] > 0.3
    assert found.bootstrap_interval[1] < 0.5
    assert found.reason == ""
    # Not a mean of ratios: one seed with a small gap would carry it away.
    uneven = {0: 0.0, 1: 0.0, 2: 0.0}
    ratio = gap_closed({0: 0.9, 1: 1.0, 2: 1.1}, uneven, {0: 1.8, 1: 2.0, 2: 2.2}, 1000)
    assert ratio.share == pytest.approx(1.0 / 2.0)


def test_a_gap_that_may_be_noise_is_not_divided_by() -> None:
    # Differences 0.01, 0.03: mean 0.02, standard error 0.01: two standard errors.
    small = gap_closed({0: 0.5, 1: 0.5}, {0: 0.1, 1: 0.1}, {0: 0.11, 1: 0.13}, resamples=1000)
    assert small.gap == pytest.approx(0.02)
    assert small.gap_standard_error == pytest.approx(0.01)
    assert math.isnan(small.share)
    assert small.reason == "gap too small"
    # 0.03, 0.05: mean 0.04, standard error 0.01: four.
    enough = gap_closed({0: 0.5, 1: 0.5}, {0: 0.1, 1: 0.1}, {0: 0.13, 1: 0.15}, resamples=1000)
    assert enough.share == pytest.approx(10.0)


def test_an_oracle_below_uniform_leaves_no_gap() -> None:
    upside_down = gap_closed(LOOP, ORACLE, UNIFORM, resamples=1000)
    assert upside_down.reason == "gap too small"


def test_one_seed_gives_no_share_of_the_gap() -> None:
    found = gap_closed({0: 0.2}, {0: 0.1}, {0: 0.3}, resamples=1000)
    assert math.isnan(found.share)
    assert found.reason == "one seed"
