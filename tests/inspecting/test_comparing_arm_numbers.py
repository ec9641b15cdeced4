"""Final numbers of arms, against an independent computation of means and intervals."""

from types import SimpleNamespace

import pytest
from scipy import stats

from selffilter.comparing.arm_numbers import measures_of, paired, plus_minus
from selffilter.comparing.arms import Arm
from selffilter.comparing.seeds import spread

LOOP = {0: 0.31, 1: 0.36, 2: 0.30, 3: 0.35}
UNIFORM = {0: 0.22, 1: 0.25, 2: 0.24, 3: 0.21}


def arm(number, name, seeds, first):
    sides = []
    for k, seed in enumerate(seeds):
        run = SimpleNamespace(config=SimpleNamespace(seed=seed))
        sides.append(SimpleNamespace(letter=chr(ord(first) + k), run=run, round=2))
    return Arm(number, name, tuple(sides))


def rows(value, metric="acc1", set_="birds"):
    ways = [(0, value / 2), (2, value), (3, 9.0)]  # round 3 comes after the one that is compared
    return [
        {"round": r, "samples_seen": r, "set": set_, "metric": metric, "value": v} for r, v in ways
    ]


@pytest.fixture
def arms():
    return [arm(0, "loop", LOOP, "A"), arm(1, "uniform", UNIFORM, "E")]


@pytest.fixture
def numbers():
    values = zip("ABCDEFGH", [*LOOP.values(), *UNIFORM.values()], strict=True)
    return {letter: rows(v) + rows(v / 10, "precision", None) for letter, v in values}


def test_the_last_values_up_to_the_compared_round_are_taken(arms, numbers):
    birds, precision = measures_of(arms, numbers)
    assert (birds.set, birds.metric, birds.values) == ("birds", "acc1", {0: LOOP, 1: UNIFORM})
    assert precision.values[0][1] == pytest.approx(0.036)


def test_means_and_standard_deviations_are_those_of_scipy(arms, numbers):
    found = measures_of(arms, numbers)[0].spreads[0]
    assert found.mean == pytest.approx(stats.tmean(list(LOOP.values())))
    assert found.sd == pytest.approx(stats.tstd(list(LOOP.values())))
    assert plus_minus(found, percent=True) == "33.0 ± 2.9"
    assert plus_minus(spread({0: 0.33}), percent=True) == "33.0"


def test_paired_intervals_are_those_of_a_paired_t_test(arms, numbers):
    (one,) = paired(measures_of(arms, numbers)[0], arms)
    test = stats.ttest_rel(list(UNIFORM.values()), list(LOOP.values()))
    ends = test.confidence_interval(0.95)
    assert (one.of, one.versus, one.difference.seeds) == (1, 0, 4)
    assert one.difference.t_interval == pytest.approx((ends.low, ends.high))


def test_only_seeds_that_both_have_are_paired(arms, numbers):
    other = [arms[0], arm(1, "uniform", (2, 7), "E")]
    (one,) = paired(measures_of(other, numbers)[0], other)
    assert one.difference.seeds == 1
    assert one.difference.mean == pytest.approx(UNIFORM[0] - LOOP[2])
    strangers = [arms[0], arm(1, "uniform", (8, 9), "E")]
    assert paired(measures_of(strangers, numbers)[0], strangers) == []


def test_of_many_arms_each_is_held_against_the_first(numbers):
    arms = [arm(k, str(k), (0, 1), "ACEG"[k]) for k in range(4)]
    pairs = [(x.of, x.versus) for x in paired(measures_of(arms, numbers)[0], arms)]
    assert pairs == [(1, 0), (2, 0), (3, 0)]
    pairs = [(x.of, x.versus) for x in paired(measures_of(arms[:3], numbers)[0], arms[:3])]
    assert pairs == [(1, 0), (2, 0), (2, 1)]


def test_a_metric_that_is_asked_for_stands_alone(arms, numbers):
    for letter in numbers:
        numbers[letter] += rows(0.5, "mean_per_class_recall")
    names = [m.metric for m in measures_of(arms, numbers) if m.set]
    assert names == ["acc1", "mean_per_class_recall"]
    names = [m.metric for m in measures_of(arms, numbers, "mean_per_class_recall") if m.set]
    assert names == ["mean_per_class_recall"]
