"""First-order theory against simulation, and against what can be worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from selffilter.theory import (
    BimodalModel,
    FirstOrder,
    Pool,
    fit,
    oracle_fit,
    paper_filtered_rate,
    paper_unfiltered_rate,
    representation_error,
)
from selffilter.theory.experiments.self_filtering import perfect_teacher
from selffilter.theory.filtering import keep_top, score_pool

MODEL = BimodalModel(12, 6, 3, 50.0, 80.0, 0.4)


def simulated(learn, n=20_000, seeds=12):
    """Root-mean-square error: what equation (1) predicts."""
    errors = [representation_error(learn(Pool(MODEL, n, seed)), MODEL) for seed in range(seeds)]
    return float(np.sqrt(np.mean(np.square(errors))))


def test_predictions_agree_with_simulation():
    theory = FirstOrder(MODEL, draws=200_000)

    def top(fraction):
        def learn(pool):
            return fit(pool, keep_top(score_pool(pool, perfect_teacher(MODEL)), fraction))

        return learn

    for prediction, learn in (
        (theory.unfiltered(20_000), fit),
        (theory.clean_only(20_000), oracle_fit),
        (theory.kept_fraction(0.3, 20_000), top(0.3)),
        (theory.kept_fraction(0.7, 20_000), top(0.7)),
    ):
        assert simulated(learn) == pytest.approx(prediction, rel=0.12)


def test_weights_of_one_are_the_closed_form():
    theory = FirstOrder(MODEL)
    assert theory.weighted(np.ones(theory.draws), 500) == pytest.approx(
        theory.unfiltered(500), rel=0.02
    )


def test_nothing_beats_the_floor_and_its_weights_reach_it():
    theory = FirstOrder(MODEL, draws=100_000)
    a, b = theory.projections
    inner = np.sum(a * b, axis=1)
    floor = theory.floor(1000)
    assert theory.weighted(inner / np.sum(b**2, axis=1), 1000) == pytest.approx(floor, rel=1e-9)
    rivals = [
        theory.kept_fraction(f, 1000, s)
        for f in (0.1, 0.3, 0.5, 0.8)
        for s in ("inner product", "cosine", "regression")
    ]
    assert min(rivals) > floor
    assert floor < theory.clean_only(1000)


def test_without_clean_pairs_the_floor_is_r_times_the_noise():
    model = BimodalModel(10, 8, 4, 1e4, 1e8, 0.0)
    floor = FirstOrder(model, draws=400_000).floor(10_000)
    # E[<a,b>^2/|b|^2] = 1 + 1/gamma for independent a, b.
    assert floor == pytest.approx(4 * np.sqrt(6 / 1e4 / 1e4), rel=0.01)


def test_an_anticorrelated_selection_is_refused():
    theory = FirstOrder(MODEL, draws=10_000)
    with pytest.raises(ValueError, match="positive"):
        theory.weighted((theory.scores() < 0).astype(float), 1000)


def test_the_papers_rates():
    model = BimodalModel(10, 8, 4, 1e4, 1e4, 0.25)
    common = np.sqrt(4 * 10 * (1 + 1e-4) ** 2 / 900)
    assert paper_unfiltered_rate(model, 900) == pytest.approx(4 * common)
    assert paper_filtered_rate(model, 900) == pytest.approx(2 * common)
    flat = replace(model, clean_share=0.001)
    assert paper_filtered_rate(flat, 900) == pytest.approx(4 * common)  # min(1/sqrt(eta), r) = r
