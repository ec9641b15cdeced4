from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from selffilter.scoring.signals.facts import Bank, Facts, Pairs
from selffilter.scoring.signals.neg_clip_loss import NegClipLoss


def score(case, rows=slice(None)):
    return NegClipLoss()(Pairs(case.image[rows], case.text[rows], case.row[rows]), case.facts)


def test_it_is_the_formula_in_float64_at_a_temperature_where_exp_would_overflow(case, reference):
    tau = case.facts.temperature
    own, to_text, to_image, count = reference(case)
    assert torch.tensor(own / tau, dtype=torch.float32).exp().isinf().all()
    expected = own - tau / 2 * (to_text - np.log(count) + to_image - np.log(count))
    assert len(set(count.tolist())) == 2  # rows that are in the bank, and others
    scores = score(case)
    assert scores.dtype == torch.float32
    np.testing.assert_allclose(scores.numpy(), expected, rtol=0, atol=2e-6)
    assert expected.std() > 1e-3


def test_against_its_own_batch_it_is_the_contrastive_loss_of_each_pair(case):
    image, text, tau = case.image.double(), case.text.double(), 0.07
    facts = Facts(tau, Bank(image, text, case.row))
    logits = image @ text.T / tau
    each = torch.arange(len(image))
    loss = sum(F.cross_entropy(part, each, reduction="none") for part in (logits, logits.T)) / 2
    scores = NegClipLoss()(Pairs(image, text, case.row), facts)
    published = scores - tau * np.log(len(image))  # a sum there, a mean here
    torch.testing.assert_close(published, -tau * loss, rtol=0, atol=1e-8)


@pytest.mark.parametrize("parts", [[40], [1] * 40, [7, 33], [13, 13, 13, 1]])
def test_the_split_into_batches_changes_nothing(case, parts):
    ends = np.cumsum([0, *parts])
    split = torch.cat([score(case, slice(a, b)) for a, b in pairwise(ends)])
    torch.testing.assert_close(split, score(case), rtol=0, atol=1e-6)


def test_a_row_of_the_bank_counts_itself_once(case):
    """So whether a row was drawn for the bank hardly matters to its score."""
    last = case.row[-1]
    keep = case.bank.row_M != last
    assert (~keep).sum() == 1
    bank = Bank(
        case.bank.image_features_MD[keep], case.bank.text_features_MD[keep], case.bank.row_M[keep]
    )
    case_without = NegClipLoss()(case.pairs, replace(case.facts, bank=bank))
    torch.testing.assert_close(case_without[-1], score(case)[-1], rtol=0, atol=1e-6)
    assert not torch.allclose(case_without[:-1], score(case)[:-1], rtol=0, atol=1e-6)


def test_a_caption_that_is_close_to_everything_is_pushed_down(case):
    text = case.text.clone()
    text[0] = F.normalize(case.bank.image_features_MD.sum(dim=0), dim=0)
    generic = NegClipLoss()(Pairs(case.image, text, case.row), case.facts)
    cosine = (case.image * text).sum(-1)
    assert cosine.argsort().argsort()[0] > generic.argsort().argsort()[0]


def test_temperatures_from_hot_to_the_coldest_give_finite_scores(case):
    for tau in (1e-3, 0.01, 0.07, 1.0, 100.0):
        facts = replace(case.facts, temperature=tau)
        assert NegClipLoss()(case.pairs, facts).isfinite().all()


def test_without_a_bank_it_says_so(case):
    with pytest.raises(ValueError, match="needs a bank"):
        NegClipLoss()(case.pairs, Facts(0.07))
