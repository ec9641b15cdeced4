import pytest
import torch

from selffilter.errors import UserError
from selffilter.scoring.cosine import Cosine
from selffilter.scoring.facts import Facts
from selffilter.scoring.signals import find_signal


def test_it_is_the_cosine_of_each_pair(case):
    scores = Cosine()(case.image, case.text, case.row, Facts(0.07, None))
    expected = torch.cosine_similarity(case.image.double(), case.text.double())
    torch.testing.assert_close(scores.double(), expected, rtol=0, atol=1e-6)
    assert not Cosine.needs_bank


@pytest.mark.parametrize(
    ("name", "needs_bank"), [("cosine", False), ("neg_clip_loss", True), ("pair_probability", True)]
)
def test_signals_are_found_by_name(name, needs_bank):
    assert find_signal(name).needs_bank is needs_bank


def test_a_signal_that_there_is_not_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"score\.signal='neg_cliploss' .*mean 'neg_clip_loss'\?"):
        find_signal("neg_cliploss")
    with pytest.raises(UserError, match="cosine, neg_clip_loss, pair_probability, given"):
        find_signal("zzz")
