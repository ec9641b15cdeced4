from dataclasses import replace

import numpy as np
import pytest
import torch

from selffilter.scoring.moments import SecondMoments
from selffilter.scoring.signals.facts import Facts, Target
from selffilter.scoring.signals.variance_alignment import VarianceAlignment

SIDES = {"image": ("image", "image"), "text": ("text", "text"), "cross": ("image", "text")}


@pytest.fixture
def others(make_features):
    return {"image": make_features(50, 16, 5, 1.0), "text": make_features(50, 16, 6, 1.0)}


@pytest.mark.parametrize("traindata", [False, True])
@pytest.mark.parametrize("kind", SIDES)
def test_it_is_the_mean_product_of_similarities_in_float64(kind, traindata, case, others):
    """uᵀ Σ v = (1/M) Σ_t (u·a_t)(v·b_t), without a single matrix Σ."""
    moments = SecondMoments.of(others["image"], others["text"])
    facts = Facts(0.01, moments=moments) if traindata else Facts(0.01, target=Target(moments))
    left, right = (getattr(case, side).double().numpy() for side in SIDES[kind])
    a, b = (others[side].double().numpy() for side in SIDES[kind])
    expected = ((left @ a.T) * (right @ b.T)).mean(axis=1)
    scores = VarianceAlignment(kind, traindata=traindata)(case.pairs, facts)
    assert scores.dtype == torch.float32
    np.testing.assert_allclose(scores.double().numpy(), expected, rtol=0, atol=1e-6)
    assert expected.std() > 1e-3


def test_target_and_traindata_are_not_mixed_up(case, others):
    of_target, of_pool = (
        SecondMoments.of(others[a], others[b]) for a, b in (("image", "text"), ("text", "image"))
    )
    facts = Facts(0.01, moments=of_pool, target=Target(of_target))
    by_target = VarianceAlignment("image")(case.pairs, facts)
    by_pool = VarianceAlignment("image", traindata=True)(case.pairs, facts)
    assert not torch.allclose(by_target, by_pool)
    same = replace(facts, moments=of_target)
    assert torch.equal(VarianceAlignment("image", traindata=True)(case.pairs, same), by_target)


@pytest.mark.parametrize("kind", ["text", "cross"])
def test_a_target_of_images_alone_has_no_alignment_of_texts(kind, case, others):
    facts = Facts(0.01, target=Target(SecondMoments.of(others["image"])))
    with pytest.raises(ValueError, match="no captions in this set"):
        VarianceAlignment(kind)(case.pairs, facts)
