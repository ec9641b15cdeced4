"""The gap closed over seeds, against numbers computed by hand."""

from __future__ import annotations

import math

import pytest

from selffilter.experiments.analysis import gap_closed

UNIFORM = {0: 0.10, 1: 0.12, 2: 0.08, 3: 0.10, 4: 0.10}
ORACLE = {0: 0.20, 1: 0.22, 2: 0.18, 3: 0.21, 4: 0.19}
LOOP = {0: 0.14, 1: 0.16, 2: 0.13, 3: 0.14, 4: 0.13}


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
