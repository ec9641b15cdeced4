from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selffilter.pool.noise import normalise_caption, plant_mismatches

CAPTIONS = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from([None, "x", "y", "z"])), max_size=40
)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A  Dog!", "a dog"),
        ("“dog”, barking.", "dog barking"),
        ("STRASSE", "straße"),
        ("cafe\u0301", "caf\u00e9"),
        ("ﬁne", "fine"),
    ],
)
def test_captions_that_say_the_same_are_normalised_to_the_same(one, other):
    assert normalise_caption(one) == normalise_caption(other)


def test_captions_that_say_other_things_stay_apart():
    assert len({normalise_caption(c) for c in ("a dog", "a cat", "a dog 2", "adog", "犬")}) == 5


@given(CAPTIONS, st.floats(0, 1), st.integers(0, 3))
def test_no_planted_pair_is_true_and_no_caption_is_lost(samples, rate, seed):
    captions, labels = [c for c, _ in samples], [label for _, label in samples]
    source = plant_mismatches(captions, labels, rate, seed)
    assert sorted(source.tolist()) == list(range(len(samples)))
    planted = np.flatnonzero(source != np.arange(len(samples)))
    assert len(planted) <= round(rate * len(samples))
    for taker in planted:
        giver = source[taker]
        assert captions[taker] != captions[giver]
        assert labels[taker] is None or labels[taker] != labels[giver]
    assert Counter(captions[s] for s in source) == Counter(captions)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_exactly_the_rate_is_planted_where_captions_are_diverse(rate):
    captions = [f"thing {i % 300}" for i in range(1000)]  # repeats, as in real pools
    source = plant_mismatches(captions, [None] * 1000, rate, seed=0)
    assert (source != np.arange(1000)).sum() == round(rate * 1000)


def test_case_and_punctuation_do_not_make_a_mismatch():
    assert plant_mismatches(["Dog.", "dog", "DOG!"], [None] * 3, 1.0, 0).tolist() == [0, 1, 2]


def test_samples_of_one_label_are_not_exchanged():
    captions = ["a", "b", "c", "d"]
    assert plant_mismatches(captions, ["x"] * 4, 1.0, 0).tolist() == [0, 1, 2, 3]
    source = plant_mismatches(captions, ["x", "x", "y", "y"], 1.0, 0)
    assert set(source[:2].tolist()) == {2, 3}


def test_the_same_seed_plants_the_same_and_another_seed_other_noise():
    captions = [str(i) for i in range(200)]
    plant = lambda seed: plant_mismatches(captions, [None] * 200, 0.5, seed).tolist()  # noqa: E731
    assert plant(1) == plant(1)
    assert plant(1) != plant(2)
