"""A made-up language is one: it means the same throughout the pool, and shares no word with it."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selffilter.pool.noise import Kind, Texts, plant
from selffilter.pool.noise.check import DishonestNoiseError, check_honest
from selffilter.pool.noise.wrong_language import (
    can_be_translated,
    make_lexicon,
    translate,
    translate_some,
)

CAPTIONS = st.lists(
    st.lists(st.sampled_from(["a", "e", "i", "at", "et", "it", "cat", "Cat", "DOG", "x2"]),
             min_size=1, max_size=4).map(" ".join),
    min_size=1, max_size=20,
)  # fmt: skip


@given(CAPTIONS, st.integers(0, 50))
def test_every_word_has_one_translation_and_none_is_a_word_of_the_pool(captions, seed):
    lexicon = make_lexicon(captions, seed)
    assert set(lexicon) == {word for c in captions for word in c.lower().replace("2", "").split()}
    assert len(set(lexicon.values())) == len(lexicon)
    assert not set(lexicon) & set(lexicon.values())


def test_vowels_stay_vowels_and_no_letter_stays_itself():
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    (foreign,) = make_lexicon([alphabet], seed=0).values()
    assert sorted(foreign) == sorted(alphabet)
    for letter, other in zip(alphabet, foreign, strict=True):
        assert letter != other
        assert (letter in "aeiouy") == (other in "aeiouy")


def test_capitals_digits_and_punctuation_stay_where_they_are():
    lexicon = {"a": "o", "cat": "pid", "gtk": "lbs", "usa": "ilo"}
    assert (
        translate("A Cat, (GTK2) of-usa!".replace("of-", "a-"), lexicon) == "O Pid, (LBS2) o-ilo!"
    )


@pytest.mark.parametrize(
    ("caption", "can"),
    [("a cat", True), ("2 x", True), ("café", False), ("кот", False), ("12 !", False), ("", False)],
)
def test_only_captions_whose_letters_all_have_a_counterpart_are_translated(caption, can):
    assert can_be_translated(caption) is can


def test_as_many_rows_as_asked_for_among_the_free_ones_that_can_be():
    texts = Texts([("a cat", "кот", "two dogs", "!")[i % 4] for i in range(400)])
    free = np.arange(200, dtype=np.int64)
    assert len(translate_some(texts, free, 60, seed=0).rows_n) == 60
    part = translate_some(texts, free, 150, seed=0)
    assert sorted(part.rows_n.tolist()) == [i for i in range(200) if i % 2 == 0]
    assert len(set(part.captions)) == 2 and (part.source_n == -1).all()
    other = translate_some(texts, free, 60, seed=1)
    assert set(other.captions) != set(part.captions)


@pytest.mark.parametrize(
    ("captions", "planted_as"),
    [
        (["red cat", "cat"], ["ok us", "is"]),  # a word with two translations
        (["red cat", "cat"], ["ok ok", "ok"]),  # two words with one translation
        (["red cat", "cat"], ["ok red", "red"]),  # a word of the pool
        (["red cat", "cat"], ["ok", "us"]),  # a word is lost
        (["red cät", "cat"], ["ok us", "us"]),  # letters without a counterpart
    ],
)
def test_the_check_finds_what_is_no_language(captions, planted_as):
    texts = Texts(captions)
    planted = dataclasses.replace(
        plant(texts, {}, 0),
        captions=planted_as,
        kind_N=np.full(2, Kind.wrong_language, np.uint8),
    )
    with pytest.raises(DishonestNoiseError, match="is not wrong_language"):
        check_honest(texts, planted)
