import numpy as np
import torch

from selffilter.scoring.null import PAIRS_A_ROW, joined, null_scores
from selffilter.scoring.signals.cosine import Cosine
from selffilter.scoring.signals.facts import Facts, Pairs


def unit(rows, seed, width=8):
    features = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(features, dim=1)


def pairs_of(rows, seed=0):
    return Pairs(unit(rows, seed), unit(rows, seed + 1), torch.arange(rows))


def test_each_image_meets_the_captions_of_so_many_others():
    pairs = pairs_of(9)
    found = null_scores(pairs, {"cosine": Cosine()}, Facts(0.07), batch_size=4)["cosine"]
    cosines = (pairs.image_features_BD @ pairs.text_features_BD.T).numpy()
    expected = [cosines[i, (i + s) % 9] for s in range(1, PAIRS_A_ROW + 1) for i in range(9)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_swap_for_the_same_caption_is_no_wrong_pair():
    pairs = pairs_of(5)
    pairs.text_features_BD[3] = pairs.text_features_BD[2]
    found = null_scores(pairs, {"cosine": Cosine()}, Facts(0.07), batch_size=64)["cosine"]
    assert len(found) == 5 * PAIRS_A_ROW - 2  # 2 with 3's, and 3 with 2's
    alike = Pairs(unit(5, 0), unit(1, 1).expand(5, 8), torch.arange(5))
    assert len(null_scores(alike, {"cosine": Cosine()}, Facts(0.07), 8)["cosine"]) == 0


def test_batches_are_joined_with_all_that_signals_need():
    parts = [
        Pairs(unit(n, n), unit(n, n + 9), torch.arange(n), unit(n, n + 5), pairs_of(n, 3))
        for n in (2, 3)
    ]
    whole = joined(parts)
    assert len(whole.row_B) == len(whole.flipped_image_features_BD) == 5
    some = whole.crossed(torch.tensor([4, 0]), torch.tensor([1, 2]))
    assert torch.equal(some.image_features_BD, whole.image_features_BD[[4, 0]])
    assert torch.equal(some.text_features_BD, whole.text_features_BD[[1, 2]])
    assert torch.equal(some.flipped_image_features_BD, whole.flipped_image_features_BD[[4, 0]])
    assert torch.equal(some.reference.text_features_BD, whole.reference.text_features_BD[[1, 2]])
