import numpy as np
import torch
from torch.nn import functional as F

from selffilter.scoring.signals.facts import Bank, Facts, Pairs
from selffilter.scoring.signals.learnability import Learnability


def test_it_is_the_learners_loss_less_the_references_each_at_its_own_temperature(
    case, make_features
):
    other = make_features(40, 8, 1, 1.0).double(), make_features(40, 8, 2, 1.0).double()
    own = case.image.double(), case.text.double()
    losses = []
    for (image, text), tau in ((own, 0.01), (other, 0.07)):
        logits = image @ text.T / tau
        each = torch.arange(40)
        losses.append(
            sum(F.cross_entropy(part, each, reduction="none") for part in (logits, logits.T)) / 2
        )
    pairs = Pairs(*own, case.row, reference=Pairs(*other, case.row))
    reference = Facts(0.07, Bank(*other, case.row))
    scores = Learnability()(pairs, Facts(0.01, Bank(*own, case.row), reference=reference))
    np.testing.assert_allclose(scores.numpy(), (losses[0] - losses[1]).numpy(), rtol=0, atol=1e-10)
    assert scores.std() > 0.1


def test_a_model_has_nothing_to_learn_of_itself(case):
    pairs = Pairs(case.image, case.text, case.row, reference=case.pairs)
    facts = Facts(0.01, case.bank, reference=case.facts)
    assert (Learnability()(pairs, facts) == 0).all()
