"""Threshold rules on scores whose answer is known."""

import numpy as np
import pytest

from selffilter.theory import THRESHOLD_RULES, estimate_clean_share, half_mean_threshold
from selffilter.theory.threshold import clean_share_threshold, mixture_threshold, otsu_threshold


@pytest.fixture
def two_humps():
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(0, 0.1, 7000), rng.normal(1, 0.1, 3000)])


def test_half_mean_is_the_maximum_it_claims():
    scores = np.random.default_rng(1).normal(0.3, 1, 2000)
    cut = half_mean_threshold(scores)

    def quality(threshold):
        kept = scores[scores > threshold]
        return kept.sum() / np.sqrt(kept.size)

    assert quality(cut) == pytest.approx(max(quality(t) for t in scores[scores < scores.max()]))
    # The condition at the maximum, up to the spacing of the scores.
    assert cut == pytest.approx(scores[scores > cut].mean() / 2, abs=0.01)


@pytest.mark.parametrize(
    "rule", [half_mean_threshold, mixture_threshold, otsu_threshold, clean_share_threshold]
)
def test_separated_humps_are_separated(two_humps, rule):
    assert np.mean(two_humps > rule(two_humps)) == pytest.approx(0.3, abs=0.02)


def test_the_clean_share_is_read_off_the_negative_scores(two_humps):
    assert estimate_clean_share(two_humps) == pytest.approx(0.3, abs=0.02)
    assert estimate_clean_share(np.array([-1.0, -2.0])) == 0.0


def test_half_mean_refuses_scores_without_a_zero():
    with pytest.raises(ValueError, match="re-shuffled"):
        half_mean_threshold(np.array([-1.0, -0.5]))


def test_a_pool_without_mismatches_is_kept_whole():
    assert np.all(np.ones(10) > half_mean_threshold(np.ones(10)))


def test_every_rule_keeps_something(two_humps):
    assert len(THRESHOLD_RULES) == 5
    for rule in THRESHOLD_RULES.values():
        assert 0.2 < np.mean(two_humps > rule(two_humps)) < 0.8
