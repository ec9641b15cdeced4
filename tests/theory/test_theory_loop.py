"""The loop is train, score, select, mix; and it does what the documentation claims."""

import numpy as np
import pytest

from selffilter.theory import (
    BimodalModel,
    LoopSettings,
    Pool,
    fit,
    representation_error,
    self_filter,
    teacher_student,
)
from selffilter.theory.departures import PrivateNuisance


def product(learned):
    return learned.image_encoder_rd.T @ learned.text_encoder_re


def errors(pool, settings):
    return [representation_error(r.learner, pool.model) for r in self_filter(pool, settings)]


def test_the_first_rounds_are_teacher_and_student(paper_pool):
    rounds = self_filter(paper_pool, LoopSettings(0.4, 0.0, 2))
    assert len(rounds) == 3
    np.testing.assert_allclose(product(rounds[0].learner), product(fit(paper_pool)))
    student = teacher_student(paper_pool, keep_fraction=0.4, split=False)
    np.testing.assert_allclose(product(rounds[1].learner), product(student))
    assert rounds[1].selected == pytest.approx(0.4)


def test_the_diverse_share_is_drawn_from_the_whole_pool_and_overlaps(paper_pool):
    rounds = self_filter(paper_pool, LoopSettings(0.4, 0.2, 3))
    # 0.4 confident + 0.1 drawn, of which 0.4 are confident already: 0.46 of the pool.
    for each in rounds[1:]:
        assert each.selected == pytest.approx(0.46, abs=0.01)
    again = self_filter(paper_pool, LoopSettings(0.4, 0.2, 3))
    np.testing.assert_array_equal(product(rounds[-1].learner), product(again[-1].learner))
    other = self_filter(paper_pool, LoopSettings(0.4, 0.2, 3), seed=1)
    assert not np.array_equal(product(rounds[-1].learner), product(other[-1].learner))


def test_rounds_help_a_weak_teacher():
    pool = Pool(BimodalModel(50, 40, 4, 1.0, 1.0, 0.1), 10_000, 0)
    error = errors(pool, LoopSettings(0.4, 0.0, 6))
    assert error[6] < 0.75 * error[1] < 0.75 * error[0]


def test_rounds_destroy_what_a_strong_private_nuisance_can_replace():
    pool = Pool(PrivateNuisance(strength=3.0, clean_share=0.3), 10_000, 0)
    error = errors(pool, LoopSettings(0.4, 0.0, 5))
    assert error[0] < 0.5
    assert error[5] > 0.9


def test_cross_fitting_scores_no_pair_by_a_model_trained_on_it(monkeypatch, paper_pool):
    from selffilter.theory import loop

    seen = []
    monkeypatch.setattr(loop, "fit", lambda pool, keep=None: seen.append(keep) or fit(pool, keep))
    rounds = self_filter(paper_pool, LoopSettings(0.4, 0.2, 1, cross_fit=True))
    trained = [keep for keep in seen if keep is not None and keep.sum() == paper_pool.n // 2]
    assert len(trained) == 2
    assert not np.any(trained[0] & trained[1])
    assert rounds[1].precision > 0.55


def test_a_given_teacher_makes_the_first_selection(paper_pool):
    clean = fit(Pool(BimodalModel(clean_share=1.0), 5000, 1))
    rounds = self_filter(paper_pool, LoopSettings(0.4, 0.0, 1), teacher=clean)
    assert rounds[0].learner is clean
    assert rounds[1].precision > 0.55


@pytest.mark.parametrize("settings", [{"keep_fraction": 0}, {"diverse_share": 1.0}, {"rounds": 0}])
def test_loops_that_are_none_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        LoopSettings(**settings)
