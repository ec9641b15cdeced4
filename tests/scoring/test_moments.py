import pytest
import torch

from selffilter.scoring import moments
from selffilter.scoring.moments import MomentSums, SecondMoments


def test_sigma_is_the_mean_outer_product_uncentred(make_features):
    image, text = make_features(30, 8, 0), make_features(30, 8, 1)
    found = SecondMoments.of(image, text)
    sides = {"image": (image, image), "text": (text, text), "cross": (image, text)}
    for kind, (left, right) in sides.items():
        expected = torch.einsum("nd,ne->nde", left.double(), right.double())
        assert found.sigma(kind).dtype == torch.float64
        torch.testing.assert_close(found.sigma(kind), expected.mean(0), rtol=0, atol=1e-14)


def test_parts_add_up_to_the_whole(make_features, monkeypatch):
    image, text = make_features(30, 8, 0), make_features(30, 8, 1)
    adding = MomentSums()
    for part in (slice(0, 7), slice(7, 7), slice(7, 30)):
        adding.add(image[part], text[part])
    whole = SecondMoments.of(image, text)
    monkeypatch.setattr(moments, "_ROWS_AT_ONCE", 4)
    for found in (adding.moments(), SecondMoments.of(image, text)):
        assert found.count == 30
        for kind in ("image", "text", "cross"):
            torch.testing.assert_close(found.sigma(kind), whole.sigma(kind), rtol=0, atol=1e-15)


def test_a_million_equal_rows_are_summed_without_loss():
    """float32 sums would stop growing well before."""
    adding = MomentSums()
    part = torch.full((2**14, 2), 0.5**0.5)
    for _ in range(2**10):
        adding.add(part)
    square = float(torch.tensor(0.5**0.5).double() ** 2)
    assert adding.moments().count == 2**24
    assert float(adding.moments().sigma("image")[0, 0]) == pytest.approx(square, rel=1e-12)


def test_of_nothing_there_are_none():
    with pytest.raises(ValueError, match="without a usable row"):
        MomentSums().moments()
