import torch

from selffilter.scoring.signals.facts import Facts, Pairs
from selffilter.scoring.signals.flipped_cosine import FlippedCosine


def test_it_is_the_cosine_of_the_caption_with_the_mirrored_image(case):
    flipped = case.image.roll(1, 0)
    scores = FlippedCosine()(Pairs(case.image, case.text, case.row, flipped), Facts(0.07))
    expected = torch.cosine_similarity(flipped.double(), case.text.double())
    torch.testing.assert_close(scores.double(), expected, rtol=0, atol=1e-6)
