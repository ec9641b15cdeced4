import torch

from selffilter.scoring.signals.cosine import Cosine
from selffilter.scoring.signals.facts import Facts


def test_it_is_the_cosine_of_each_pair(case):
    scores = Cosine()(case.pairs, Facts(0.07))
    expected = torch.cosine_similarity(case.image.double(), case.text.double())
    torch.testing.assert_close(scores.double(), expected, rtol=0, atol=1e-6)
    assert not Cosine.needs
