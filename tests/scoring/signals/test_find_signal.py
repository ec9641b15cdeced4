from types import SimpleNamespace

import pytest
import torch

from selffilter.errors import UserError
from selffilter.scoring.moments import SecondMoments
from selffilter.scoring.signals import find
from selffilter.scoring.signals.facts import Facts, Pairs, Target
from selffilter.scoring.signals.find import OURS, find_signal

NEEDS = {
    "cosine": set(),
    "neg_clip_loss": {"bank"},
    "pair_probability": {"bank"},
    "norm_sim_2": {"target"},
    "norm_sim_inf": {"target"},
    "variance_alignment_image": {"target"},
    "variance_alignment_text": {"target", "target_captions"},
    "variance_alignment_cross": {"target", "target_captions"},
    "variance_alignment_image_traindata": {"moments"},
    "variance_alignment_text_traindata": {"moments"},
    "variance_alignment_cross_traindata": {"moments"},
    "learnability": {"bank", "reference"},
    "flipped_cosine": {"flipped"},
}


@pytest.fixture
def full(case, make_features):
    """Pairs and facts with everything that any signal may need."""
    reference = Pairs(make_features(40, 8, 1), make_features(40, 8, 2), case.row)
    pairs = Pairs(case.image, case.text, case.row, case.image.roll(1, -1), reference)
    moments = SecondMoments.of(case.image, case.text)
    bank = type(case.bank)(make_features(64, 8, 3), make_features(64, 8, 4), case.bank.row_M)
    facts = Facts(0.01, case.bank, None, moments, Target(moments, case.image), Facts(0.07, bank))
    return pairs, facts


def test_every_signal_is_known_with_what_it_needs():
    assert {name: set(find_signal(name).needs) for name in OURS} == NEEDS


@pytest.mark.parametrize("name", NEEDS)
def test_every_signal_gives_a_float32_a_pair_whatever_the_batch(name, full):
    pairs, facts = full
    scores = find_signal(name)(pairs, facts)
    assert scores.dtype == torch.float32
    assert scores.shape == (40,)
    assert scores.isfinite().all()
    assert scores.std() > 0
    some = torch.tensor([5, 3, 30])
    alone = find_signal(name)(at(pairs, some), facts)
    torch.testing.assert_close(alone, scores[some], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [name for name, needs in NEEDS.items() if needs])
def test_a_signal_without_what_it_needs_says_so(name, case):
    with pytest.raises(ValueError, match="need"):
        find_signal(name)(case.pairs, Facts(0.01))


def test_a_signal_that_there_is_not_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"score\.signal='neg_cliploss' .*mean 'neg_clip_loss'\?"):
        find_signal("neg_cliploss")
    with pytest.raises(UserError, match=r"--signal='norm_sim' .*mean 'norm_sim_2'\?"):
        find_signal("norm_sim", asked_as="--signal")
    with pytest.raises(UserError, match=r"cosine, neg_clip_loss, pair_probability, .*, given"):
        find_signal("zzz")


class Theirs:
    """A signal of another package."""

    needs = frozenset({"bank"})

    def __call__(self, pairs, facts):
        return pairs.row_B.float()


class Outdated(Theirs):
    needs_bank = True
    needs = None


class Greedy(Theirs):
    needs = frozenset({"bank", "captions"})


@pytest.fixture
def installed(monkeypatch):
    """Packages whose entry points are the classes of this file."""
    kinds = {"theirs": Theirs, "outdated": Outdated, "greedy": Greedy}
    entries = [
        SimpleNamespace(name=name, value=f"package:{kind.__name__}", load=lambda kind=kind: kind)
        for name, kind in kinds.items()
    ]
    monkeypatch.setattr(find, "entry_points", lambda group: entries if group == find.GROUP else [])


def test_another_package_adds_a_signal_by_an_entry_point(installed, case):
    assert find_signal("theirs")(case.pairs, case.facts).tolist() == case.row.tolist()
    with pytest.raises(UserError, match=r"theirs.*mean 'theirs'"):
        find_signal("their")


@pytest.mark.parametrize("name", ["outdated", "greedy"])
def test_another_packages_signal_that_asks_for_what_there_is_not_is_refused(installed, name):
    with pytest.raises(UserError, match=f"{name!r} .*must have an attribute `needs`"):
        find_signal(name)


def at(pairs, some):
    return Pairs(
        pairs.image_features_BD[some],
        pairs.text_features_BD[some],
        pairs.row_B[some],
        pairs.flipped_image_features_BD[some],
        Pairs(
            pairs.reference.image_features_BD[some],
            pairs.reference.text_features_BD[some],
            pairs.row_B[some],
        ),
    )
