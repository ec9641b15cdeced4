import math

import numpy as np
import pytest

from selffilter.selecting.drift import jaccard, memorisation_cue


def test_jaccard_is_common_over_union():
    assert jaccard(np.array([1, 2, 3]), np.array([2, 3, 4, 5])) == 2 / 5
    assert jaccard(np.array([1, 2]), np.array([1, 2])) == 1
    assert jaccard(np.array([1]), np.array([], int)) == 0
    assert math.isnan(jaccard(np.array([], int), np.array([], int)))


def test_the_cue_is_a_difference_of_means_in_units_of_the_probe():
    seen = np.array([0.1, 0.3], np.float32)
    never = np.array([0.0, 0.2, 0.1], np.float32)
    cue = memorisation_cue(seen, never)
    assert (cue.consumed, cue.probe) == (2, 3)
    assert cue.difference == pytest.approx(0.2 - 0.1)
    assert cue.in_sd == pytest.approx((0.2 - 0.1) / 0.1)
    assert cue.standard_error == pytest.approx(math.sqrt(0.02 / 2 + 0.01 / 3) / 0.1)


def test_the_cue_of_rows_that_are_alike_is_zero_within_its_error_and_finds_a_shift():
    rng = np.random.default_rng(0)
    seen, never = rng.normal(size=(2, 4000)).astype(np.float32)
    alike = memorisation_cue(seen, never)
    assert abs(alike.in_sd) < 3 * alike.standard_error
    remembered = memorisation_cue(seen + 0.5, never)
    assert remembered.in_sd == pytest.approx(0.5, abs=3 * remembered.standard_error)


@pytest.mark.parametrize("side", [0, 1])
def test_fewer_than_two_rows_on_a_side_give_no_cue(side):
    scores = [np.array([0.1, 0.2, 0.3], np.float32)] * 2
    scores[side] = np.array([0.1], np.float32)
    cue = memorisation_cue(*scores)
    assert math.isnan(cue.difference)
    assert math.isnan(cue.in_sd)
    assert (cue.consumed, cue.probe)[side] == 1


def test_a_probe_without_spread_gives_a_difference_and_no_sd():
    cue = memorisation_cue(np.array([1, 2], np.float32), np.array([1, 1], np.float32))
    assert cue.difference == 0.5
    assert math.isnan(cue.in_sd)
