"""Final numbers of arms, against an independent computation of means and intervals."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from selffilter.comparing.arm_numbers import (
    measure_record,
    measures_of,
    paired,
    plus_minus,
    uneven_arms,
)
from selffilter.comparing.arms import Arm
from selffilter.comparing.seeds import spread
from selffilter.comparing.sides import Side
from selffilter.pool.multiset import subset_of

LOOP = {0: 0.31, 1: 0.36, 2: 0.30, 3: 0.35}
UNIFORM = {0: 0.22, 1: 0.25, 2: 0.24, 3: 0.21}


def fake_run(seed, trained, selected):
    done = {"train": list(range(trained + 1)), "select": list(range(selected + 1))}
    summary = lambda round_, stage: {"samples_seen": 100 * (round_ + 1)}  # noqa: E731
    return SimpleNamespace(
        config=SimpleNamespace(seed=seed), done=done.get, store=SimpleNamespace(summary=summary)
    )


def side(letter, seed, asked=None, trained=3, selected=2):
    """A run whose last round is trained and evaluated, and not selected."""
    compared = selected if asked is None else asked
    nothing = subset_of(np.empty((0, 2), np.uint64))
    return Side(letter, Path(letter), fake_run(seed, trained, selected), compared, nothing, asked)


def arm(number, name, seeds, first, asked=None):
    sides = [side(chr(ord(first) + k), seed, asked) for k, seed in enumerate(seeds)]
    return Arm(number, name, tuple(sides))


def rows(value, metric="acc1", set_="birds", rounds=4):
    ways = [(0, value / 2), (1, value / 3), (2, value / 4), (3, value)][:rounds]
    return [
        {"round": r, "samples_seen": 100 * (r + 1), "set": set_, "metric": metric, "value": v}
        for r, v in ways
    ]


@pytest.fixture
def arms():
    return [arm(0, "loop", LOOP, "A"), arm(1, "uniform", UNIFORM, "E")]


@pytest.fixture
def numbers():
    values = zip("ABCDEFGH", [*LOOP.values(), *UNIFORM.values()], strict=True)
    return {letter: rows(v) + rows(v / 10, "precision", None) for letter, v in values}


def test_the_last_values_are_taken_of_a_round_that_has_not_selected_too(arms, numbers):
    birds, precision = measures_of(arms, numbers)
    assert (birds.set, birds.metric, birds.values) == ("birds", "acc1", {0: LOOP, 1: UNIFORM})
    assert precision.values[0][1] == pytest.approx(0.036)
    assert arms[0].sides[0].trained == (3, 400)
    record = measure_record(birds, arms)["arms"][0]["by_seed"]
    assert record["2"] == {"value": 0.30, "round": 3, "samples_seen": 400}


def test_where_a_round_is_asked_for_nothing_later_counts(numbers):
    arms = [arm(0, "loop", LOOP, "A", asked=1), arm(1, "uniform", UNIFORM, "E", asked=1)]
    birds = measures_of(arms, numbers)[0]
    assert birds.values[0] == pytest.approx({seed: value / 3 for seed, value in LOOP.items()})
    assert arms[0].sides[0].trained == (1, 200)
    assert not arms[0].sides[0].whole and side("X", 0).whole


def test_no_mean_is_taken_over_seeds_that_stopped_at_different_rounds(arms, numbers):
    cut = (*arms[0].sides[:3], side("D", 3, trained=1, selected=1))
    numbers["D"] = rows(LOOP[3], rounds=2)
    uneven = [Arm(0, "loop", cut), arms[1]]
    measures = measures_of(uneven, numbers)
    loop, uniform = (measures[0].spreads[number] for number in (0, 1))
    assert (loop.seeds, plus_minus(loop, percent=True)) == (4, "–")
    assert uniform.sd == pytest.approx(stats.tstd(list(UNIFORM.values())))
    assert measures[0].values[0][3] == pytest.approx(LOOP[3] / 3)
    assert paired(measures[0], uneven) == []
    (told,) = uneven_arms(measures, uneven)
    assert "The seeds of loop have not come equally far" in told
    assert "A round 3, selected in 2 at 400 samples" in told and "D round 1 at 200" in told
    assert "--round 1 compares them where all have been." in told
    assert uneven_arms(measures_of(arms, numbers | {"D": rows(LOOP[3])}), arms) == []


def test_a_bootstrap_over_few_seeds_is_left_out_for_it_is_too_narrow(numbers):
    def interval(seeds):
        arms = [Arm(k, str(k), tuple(side(f"{k}{s}", s) for s in range(seeds))) for k in (0, 1)]
        numbers = {
            one.letter: rows(
                0.1 + 0.01 * (one.run.config.seed % 3) + 0.1 * arm.number * one.run.config.seed
            )
            for arm in arms
            for one in arm.sides
        }
        (one,) = paired(measures_of(arms, numbers)[0], arms)
        assert not math.isnan(one.difference.t_interval[0])
        return one.difference.bootstrap_interval

    assert all(map(math.isnan, interval(9)))
    assert not any(map(math.isnan, interval(10)))


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
