import numpy as np
import torch
from torch.nn import functional as F

from selffilter.scoring.signals.facts import Bank, Facts, Pairs
from selffilter.scoring.signals.pair_probability import PairProbability


def score(case, rows=slice(None)):
    return PairProbability()(Pairs(case.image[rows], case.text[rows], case.row[rows]), case.facts)


def test_it_is_the_mean_log_probability_of_both_directions_in_float64(case, reference):
    own, to_text, to_image, _ = reference(case)
    logit = own / case.facts.temperature
    expected = ((logit - to_text) + (logit - to_image)) / 2
    np.testing.assert_allclose(score(case).numpy(), expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.1
    assert (score(case) <= 0).all()


def test_against_its_own_batch_it_is_minus_the_contrastive_loss(case):
    image, text, tau = case.image.double(), case.text.double(), 0.07
    logits = image @ text.T / tau
    each = torch.arange(len(image))
    loss = sum(F.cross_entropy(part, each, reduction="none") for part in (logits, logits.T)) / 2
    scores = PairProbability()(
        Pairs(image, text, case.row), Facts(tau, Bank(image, text, case.row))
    )
    torch.testing.assert_close(scores, -loss, rtol=0, atol=1e-12)


def test_the_split_into_batches_changes_nothing(case):
    split = torch.cat([score(case, slice(0, 11)), score(case, slice(11, 40))])
    torch.testing.assert_close(split, score(case), rtol=0, atol=1e-4)


def test_a_pair_alone_with_a_bank_of_itself_is_certain(case):
    one = slice(0, 1)
    bank = Bank(case.image[one], case.text[one], case.row[one])
    pairs = Pairs(case.image[one], case.text[one], case.row[one])
    assert PairProbability()(pairs, Facts(0.01, bank)) == 0


def test_for_a_sigmoid_model_it_is_the_log_probability_of_the_pair_by_itself(case):
    """Zhai et al. (2023): p = σ(s/τ + b); no bank comes in."""
    tau, bias = 0.1, -10.0
    scores = PairProbability()(case.pairs, Facts(tau, logit_bias=bias))
    own = (case.image.double() * case.text.double()).sum(-1)
    expected = -torch.log1p(torch.exp(-(own / tau + bias)))
    torch.testing.assert_close(scores.double(), expected, rtol=0, atol=1e-6)
    assert scores.dtype == torch.float32
    assert scores.argsort().tolist() == own.argsort().tolist()
