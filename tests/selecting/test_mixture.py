import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.mixture import GaussianMixture

from selffilter.selecting.mixture import Mixture, fit_mixture


def two_hills(rows=40_000, clean=0.3, distance=3.0, sds=(1.0, 1.0), seed=0):
    rng = np.random.default_rng(seed)
    upper = rng.random(rows) < clean
    scores = np.where(upper, rng.normal(distance, sds[1], rows), rng.normal(0, sds[0], rows))
    return (scores * 0.1 + 0.2).astype(np.float32), upper


def mixture(weights=(0.5, 0.5), means=(0.0, 2.0), sds=(1.0, 1.0)):
    return Mixture(weights, means, sds, -100.0, -200.0, 1000)


CASES = [
    dict(clean=0.5, distance=4.0),
    dict(clean=0.3, distance=3.0, sds=(1.0, 0.6)),
    dict(clean=0.8, distance=2.5, sds=(0.7, 1.0)),
    dict(clean=0.1, distance=5.0, sds=(1.0, 0.5), rows=3000),
]


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_maximum_that_scikit_learn_finds_on_the_scores_themselves(case):
    scores, _ = two_hills(**case)
    theirs = GaussianMixture(2, tol=1e-10, max_iter=5000, n_init=3, random_state=0)
    theirs.fit(scores[:, None].astype(np.float64))
    order = np.argsort(theirs.means_[:, 0])
    ours = fit_mixture(scores)
    assert ours.weights == pytest.approx(theirs.weights_[order], abs=1e-3)
    assert ours.means == pytest.approx(theirs.means_[order, 0], abs=1e-4)
    assert ours.sds == pytest.approx(np.sqrt(theirs.covariances_[order, 0, 0]), rel=2e-3)
    assert ours.log_likelihood == pytest.approx(
        theirs.score(scores[:, None]) * len(scores), abs=0.01 + 1e-5 * len(scores)
    )
    one = GaussianMixture(1).fit(scores[:, None].astype(np.float64))
    bic = one.bic(scores[:, None]) - theirs.bic(scores[:, None])
    assert ours.bic_difference == pytest.approx(bic, abs=0.05 + 1e-5 * len(scores))
    between = np.linspace(*ours.means, 50).astype(np.float32)
    assert ours.posterior(between) == pytest.approx(
        theirs.predict_proba(between[:, None])[:, order[1]], abs=5e-3
    )


@pytest.mark.parametrize("clean", [0.1, 0.4, 0.9])
def test_the_clean_share_of_two_gaussians_is_found(clean):
    scores, upper = two_hills(clean=clean, distance=3.5)
    found = fit_mixture(scores)
    assert found.clean_share == pytest.approx(upper.mean(), abs=0.02)
    assert found.separation == pytest.approx(3.5, abs=0.15)
    assert found.bic_difference > 1000
    assert found.rows == len(scores)


def test_rows_that_do_not_count_and_rows_without_a_score_change_nothing():
    scores, _ = two_hills(4000)
    padded = np.full(12_000, np.nan, np.float32)
    padded[::3] = scores
    padded[1::3] = np.where(np.arange(4000) % 2, np.inf, -np.inf)
    counted = np.zeros(12_000, bool)
    counted[::3] = True
    assert fit_mixture(padded) == fit_mixture(scores)
    padded[2::3] = 7.0
    assert fit_mixture(padded, counted) == fit_mixture(scores)
    assert fit_mixture(padded, np.flatnonzero(counted)) == fit_mixture(scores)


def test_the_order_of_the_rows_changes_nothing():
    scores, _ = two_hills(5000)
    assert fit_mixture(scores[::-1].copy()) == fit_mixture(scores)
    assert fit_mixture(np.sort(scores)) == fit_mixture(scores)


def test_it_moves_and_stretches_with_the_scores():
    scores, _ = two_hills()
    plain, moved = fit_mixture(scores), fit_mixture(scores.astype(np.float64) * 100 - 7)
    assert moved.clean_share == pytest.approx(plain.clean_share, abs=1e-4)
    assert moved.means == pytest.approx([100 * mean - 7 for mean in plain.means], abs=1e-2)
    assert moved.bic_difference == pytest.approx(plain.bic_difference, rel=1e-3)
    assert moved.lowest_score(0.9) == pytest.approx(100 * plain.lowest_score(0.9) - 7, abs=1e-2)


@pytest.mark.parametrize(
    "scores",
    [
        [],
        [0.5],
        [0.1, 0.2, 0.9, 1.0],
        [np.nan] * 50,
        [np.inf] * 50,
        [0.3] * 1000,
        list(np.random.default_rng(0).normal(size=2000)),
        list(np.random.default_rng(0).standard_t(3, size=2000)),
    ],
    ids=["none", "one", "four", "nan", "infinite", "equal", "one Gaussian", "heavy tails"],
)
def test_where_there_are_no_two_hills_there_is_no_mixture(scores):
    assert fit_mixture(np.array(scores, np.float32)) is None


def test_two_values_are_two_hills():
    found = fit_mixture(np.repeat([0, 1], [700, 300]).astype(np.float32))
    assert found.clean_share == pytest.approx(0.3, abs=1e-6)
    assert found.means == pytest.approx((0, 1), abs=1e-3)
    assert 0 < found.lowest_score(0.5) < 1


def test_a_few_far_outliers_do_not_hide_the_hills():
    scores, upper = two_hills(clean=0.4, distance=4)
    found = fit_mixture(np.append(scores, np.float32([1e6, -1e4])))
    assert found.clean_share == pytest.approx(upper.mean(), abs=0.02)
    assert found.separation == pytest.approx(4, abs=0.2)


def test_a_heap_of_equal_scores_is_not_a_component_without_width():
    scores, _ = two_hills(10_000, clean=0.5, distance=4)
    found = fit_mixture(np.append(scores, np.full(800, np.median(scores))))
    assert min(found.sds) >= 0.09 * scores.std()


class TestThePosterior:
    def test_is_that_of_bayes_between_the_means(self):
        found = mixture((0.7, 0.3), (-1.0, 2.0), (1.0, 0.5))
        x = np.linspace(-1, 2, 13)
        density = [
            w / s * np.exp(-0.5 * ((x - m) / s) ** 2)
            for w, m, s in zip(found.weights, found.means, found.sds, strict=True)
        ]
        expected = density[1] / (density[0] + density[1])
        assert found.posterior(x) == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize("sds", [(1.0, 3.0), (3.0, 1.0), (1.0, 1.0)])
    def test_does_not_fall_with_the_score_also_in_far_tails(self, sds):
        posterior = mixture(sds=sds).posterior(np.linspace(-1000, 1000, 20_001))
        assert (np.diff(posterior) >= 0).all()
        assert posterior[0] < 0.5 < posterior[-1]

    def test_is_a_number_however_far_the_score_and_none_without_one(self):
        found = mixture().posterior(np.array([-1e30, 1e30, np.nan], np.float32))
        assert found[:2].tolist() == [0, 1]
        assert math.isnan(found[2])


class TestTheLowestScore:
    @given(
        weight=st.floats(0.02, 0.98),
        distance=st.floats(0, 8),
        sds=st.tuples(st.floats(0.1, 4), st.floats(0.1, 4)),
        probability=st.floats(0.01, 0.99),
    )
    @settings(deadline=None)
    def test_is_where_the_posterior_comes_up_to_the_probability(
        self, weight, distance, sds, probability
    ):
        found = mixture((1 - weight, weight), (0.3, 0.3 + distance), sds)
        lowest = found.lowest_score(probability)
        if lowest == math.inf:
            assert found.posterior(np.array([0.3 + distance, 1e6])).max() <= probability + 1e-5
            return
        assert lowest >= 0.3
        at, below = found.posterior(np.array([lowest + 1e-9, (0.3 + lowest) / 2 - 1e-9]))
        assert at >= probability - 1e-5
        if lowest > 0.3:
            assert at == pytest.approx(probability, abs=1e-3)
            assert below <= probability + 1e-5

    def test_rises_with_the_probability(self):
        found = mixture((0.5, 0.5), (0, 3), (1.0, 1.2))
        lowest = [found.lowest_score(p) for p in (0.01, 0.1, 0.5, 0.9, 0.99)]
        assert lowest == sorted(lowest)

    def test_is_infinite_where_a_wide_lower_component_leaves_nothing_that_sure(self):
        found = mixture((0.9, 0.1), (0, 1), (3.0, 1.0))
        assert found.lowest_score(0.999) == math.inf

    def test_is_never_in_the_lower_tail_where_a_wide_upper_component_wins_again(self):
        found = mixture((0.5, 0.5), (0, 1), (0.5, 3.0))
        assert found.lowest_score(0.5) > 0

    @pytest.mark.parametrize("probability", [0, 1, -0.1, math.nan])
    def test_needs_a_probability(self, probability):
        with pytest.raises(ValueError, match="not between 0 and 1"):
            mixture().lowest_score(probability)
