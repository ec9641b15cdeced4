from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from selffilter.clip.model import find_recipe
from selffilter.scoring.captions import encode_captions, first_captions, score_rows
from selffilter.scoring.signals.cosine import Cosine
from selffilter.scoring.signals.facts import Bank, Pairs
from selffilter.scoring.signals.neg_clip_loss import NegClipLoss
from selffilter.scoring.signals.pair_probability import PairProbability

COUNTS = torch.tensor([1, 3, 1, 2, 7, 1] + [2] * 34)
SIGNALS = [Cosine, NegClipLoss, PairProbability]


@pytest.fixture
def several(case):
    """The rows of `case` with 1 to 7 captions each; the first of each is that of `case`."""
    caption_of = torch.arange(len(COUNTS)).repeat_interleave(COUNTS)
    first = COUNTS.cumsum(0) - COUNTS
    others = 1 + 0.2 * torch.randn(len(caption_of), 16, generator=torch.Generator().manual_seed(1))
    text = F.normalize(others, dim=-1)
    text[first] = case.text
    return caption_of, text


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_score_is_the_mean_over_the_captions_of_a_row(signal, case, several):
    caption_of, text = several
    scores = score_rows(signal(), Pairs(case.image, text, case.row), caption_of, case.facts)
    assert scores.dtype == torch.float32
    for row in range(len(case.row)):
        of_row = text[caption_of == row]
        image, rows = case.image[row].expand(len(of_row), -1), case.row[row].repeat(len(of_row))
        expected = signal()(Pairs(image, of_row, rows), case.facts).mean()
        torch.testing.assert_close(scores[row], expected, rtol=1e-5, atol=1e-5)
    single = score_rows(signal(), case.pairs, torch.arange(len(case.row)), case.facts)
    only = COUNTS == 1
    torch.testing.assert_close(scores[only], single[only], rtol=1e-5, atol=1e-5)
    assert not torch.isclose(scores[~only], single[~only], atol=1e-4).all()


@pytest.mark.parametrize("signal", SIGNALS)
def test_with_one_caption_a_row_it_is_the_signal_bit_for_bit(signal, case):
    one = torch.arange(len(case.row))
    scores = score_rows(signal(), case.pairs, one, case.facts)
    assert torch.equal(scores, signal()(case.pairs, case.facts))


@pytest.mark.parametrize("signal", SIGNALS)
def test_the_same_caption_several_times_scores_as_once(signal, case):
    caption_of = torch.arange(len(COUNTS)).repeat_interleave(COUNTS)
    pairs = Pairs(case.image, case.text[caption_of], case.row)
    scores = score_rows(signal(), pairs, caption_of, case.facts)
    once = signal()(case.pairs, case.facts)
    torch.testing.assert_close(scores, once, rtol=1e-5, atol=1e-5)


def test_no_caption_of_a_row_in_the_bank_is_its_own_negative(case, several):
    caption_of, text = several
    args = (Pairs(case.image, text, case.row), caption_of)
    scores = score_rows(NegClipLoss(), *args, case.facts)
    in_bank = torch.isin(case.row, case.bank.row_M).nonzero()[:, 0].tolist()
    assert len(in_bank) == 10
    for row in in_bank:
        keep = case.bank.row_M != case.row[row]
        without = Bank(
            case.bank.image_features_MD[keep],
            case.bank.text_features_MD[keep],
            case.bank.row_M[keep],
        )
        left_out = score_rows(NegClipLoss(), *args, replace(case.facts, bank=without))
        torch.testing.assert_close(scores[row], left_out[row], rtol=0, atol=1e-6)
        assert not torch.allclose(scores, left_out, rtol=0, atol=1e-6)


def test_a_row_that_is_not_a_number_leaves_the_others_alone(case, several):
    caption_of, text = several
    image = case.image.clone()
    image[4] = torch.nan
    scores = score_rows(Cosine(), Pairs(image, text, case.row), caption_of, case.facts)
    assert scores.isnan().nonzero()[:, 0].tolist() == [4]


def test_the_first_caption_of_each_row_is_taken_for_the_bank(case, several):
    caption_of, text = several
    assert torch.equal(first_captions(text, caption_of, len(case.row)), case.text)
    one = torch.arange(len(case.row))
    assert first_captions(case.text, one, len(case.row)) is case.text


class Counting(nn.Module):
    """A model that notes how many texts it is asked for at a time."""

    def __init__(self, model):
        super().__init__()
        self.model, self.texts = model, []

    def encode_image(self, image):
        return self.model.encode_image(image)

    def encode_text(self, text):
        self.texts.append(len(text))
        return self.model.encode_text(text)

    def forward(self, image, text):
        self.texts.append(len(text))
        return self.model(image, text)


def test_captions_are_encoded_as_each_would_be_alone_and_few_at_a_time():
    recipe = find_recipe("configs/models/tiny_convnext.json")
    torch.manual_seed(0)
    model = Counting(recipe.build().eval())
    size = recipe.preprocess["size"]
    image = torch.randn(4, 3, *((size, size) if isinstance(size, int) else size))
    text = recipe.tokenize([f"caption {i}" for i in range(10)])
    image_features, text_features = encode_captions(model, image, text)
    assert model.texts == [4, 4, 2]
    for i in range(10):
        alone = encode_captions(model, image[:1], text[i : i + 1])
        torch.testing.assert_close(text_features[i : i + 1], alone[1], rtol=1e-4, atol=1e-5)
        if i == 0:
            torch.testing.assert_close(image_features[:1], alone[0], rtol=1e-4, atol=1e-5)
    assert text_features.norm(dim=-1).allclose(torch.ones(10))
