import math

import numpy as np
import pytest
import torch

from selffilter.scoring.moments import SecondMoments
from selffilter.scoring.signals import norm_sim
from selffilter.scoring.signals.facts import Facts, Pairs, Target
from selffilter.scoring.signals.norm_sim import NormSim
from selffilter.scoring.signals.variance_alignment import VarianceAlignment


@pytest.fixture
def target(make_features):
    """300 target images, more than the features are wide, as real sets have."""
    image_MD = make_features(300, 16, seed=5, spread=2.0)
    return Target(SecondMoments.of(image_MD), image_MD)


@pytest.mark.parametrize("p", [2, math.inf])
def test_it_is_the_norm_of_the_similarities_in_float64(p, case, target):
    similarities = case.image.double().numpy() @ target.image_features_MD.double().numpy().T
    expected = np.linalg.norm(similarities, ord=p, axis=1)
    scores = NormSim(p)(case.pairs, Facts(0.01, target=target))
    assert scores.dtype == torch.float32
    np.testing.assert_allclose(scores.double().numpy(), expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.01


def test_it_takes_the_similarity_without_its_sign(case):
    """As published, ‖·‖_∞ of the similarities: an opposite target is as near as an equal one."""
    opposite = -case.image[:1]
    facts = Facts(0.01, target=Target(SecondMoments.of(opposite), opposite))
    for p in (2, math.inf):
        score = NormSim(p)(case.pairs, facts)
        torch.testing.assert_close(score[0], torch.tensor(1.0), rtol=0, atol=1e-6)


def test_two_squared_is_as_many_times_the_variance_alignment_as_there_are_targets(case, target):
    """arXiv 2405.19547: NormSim_2² = M · VAS."""
    facts = Facts(0.01, target=target)
    squared = NormSim(2)(case.pairs, facts).double() ** 2
    vas = VarianceAlignment("image")(case.pairs, facts).double()
    torch.testing.assert_close(squared, 300 * vas, rtol=1e-6, atol=0)


def test_targets_are_taken_in_parts(case, target, monkeypatch):
    facts = Facts(0.01, target=target)
    whole = NormSim(math.inf)(case.pairs, facts)
    monkeypatch.setattr(norm_sim, "_LOGITS_AT_ONCE", 40 * 7)
    torch.testing.assert_close(NormSim(math.inf)(case.pairs, facts), whole, rtol=0, atol=1e-6)


def test_orthogonal_to_all_targets_is_nought_and_not_the_root_of_less(target):
    across = torch.eye(16)[:4]
    flat = torch.zeros(9, 16)
    flat[:, 8] = 1
    facts = Facts(0.01, target=Target(SecondMoments.of(flat), flat))
    for p in (2, math.inf):
        assert NormSim(p)(Pairs(across, across, torch.arange(4)), facts).tolist() == [0, 0, 0, 0]


def test_infinity_cannot_be_had_of_moments_alone(case, target):
    facts = Facts(0.01, target=Target(target.moments))
    assert NormSim(2)(case.pairs, facts).isfinite().all()
    with pytest.raises(ValueError, match="the target's features"):
        NormSim(math.inf)(case.pairs, facts)


def test_no_other_norm_is_published():
    with pytest.raises(ValueError, match="not 3"):
        NormSim(3)
