"""Numbers over seeds, against numbers computed by hand."""

from __future__ import annotations

import math
import sys

import pytest

from selffilter.comparing.seeds import paired_difference, spread

UNIFORM = {0: 0.10, 1: 0.12, 2: 0.08, 3: 0.10, 4: 0.10}
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


def test_without_scipy_there_is_a_difference_and_no_interval_by_t(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    found = paired_difference(LOOP, UNIFORM, resamples=1000)
    assert found.mean == pytest.approx(0.04)
    assert all(map(math.isnan, found.t_interval))
    assert not any(map(math.isnan, found.bootstrap_interval))
