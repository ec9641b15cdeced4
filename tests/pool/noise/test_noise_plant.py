"""Planting as a whole: exact counts, repeatable, honest, and found out when it is not."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selffilter.pool.noise import PLANTED_KINDS, WEB_MIXTURE, Kind, Texts, counts_of, plant
from selffilter.pool.noise.check import DishonestNoiseError, check_honest, doubtful
from selffilter.pool.noise.mismatched import plant_mismatches

EVERY_KIND = {**WEB_MIXTURE, Kind.text_in_image: 0.2, Kind.wrong_language: 0.3}
ANIMALS = ["cat", "dog", "bird", "fish", "cow", "horse", "goat", "bear"]


def captions_of(count):
    """Diverse captions with words in common, a third of them repeated."""
    return [
        f"a {ANIMALS[i % 8]} of colour{i % 31} number{(i if i % 3 else 0) % 97}"
        for i in range(count)
    ]


def same(one, other):
    return (
        one.captions == other.captions
        and one.kind_N.tolist() == other.kind_N.tolist()
        and one.source_N.tolist() == other.source_N.tolist()
    )


@given(
    st.integers(0, 10_000),
    st.floats(0, 1),
    st.dictionaries(st.sampled_from(PLANTED_KINDS), st.floats(0.01, 10), min_size=1),
)
def test_counts_sum_to_the_rate_and_keep_the_proportions(samples, rate, proportions):
    counts = counts_of(samples, rate, proportions)
    total = round(rate * samples)
    assert sum(counts.values()) == total
    for kind, share in proportions.items():
        assert abs(counts[kind] - total * share / sum(proportions.values())) < 1


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_a_mixture_has_exactly_the_counts_asked_for(rate):
    texts = Texts(captions_of(2000))
    counts = counts_of(2000, rate, EVERY_KIND)
    planted = plant(texts, counts, seed=0)
    assert planted.counts() == {kind.name: counts[kind] for kind in PLANTED_KINDS}
    assert planted.clean_N.sum() == 2000 - round(rate * 2000)


@pytest.mark.parametrize("kind", PLANTED_KINDS)
def test_a_kind_alone_has_exactly_the_count_asked_for(kind):
    planted = plant(Texts(captions_of(500)), {kind: 200}, seed=0)
    assert planted.counts() == {kind.name: 200}
    changed = [a != b for a, b in zip(captions_of(500), planted.captions, strict=True)]
    if kind == Kind.text_in_image:
        assert not any(changed)
    elif kind == Kind.near_duplicate:
        assert set(np.flatnonzero(changed).tolist()) <= set(planted.rows(kind).tolist())
    else:
        assert np.flatnonzero(changed).tolist() == planted.rows(kind).tolist()


def test_mismatches_alone_are_those_of_plant_mismatches():
    captions = captions_of(400)
    labels = [ANIMALS[i % 8] for i in range(400)]
    source = plant_mismatches(captions, labels, 0.5, seed=3)
    planted = plant(Texts(captions, labels), {Kind.mismatched: 200}, seed=3)
    assert planted.captions == [captions[s] for s in source]


@given(
    st.lists(
        st.tuples(
            st.lists(
                st.sampled_from(["the", "red", "old", "cat", "cats", "dog", "bus", "1"]), max_size=4
            ),
            st.sampled_from([None, "x", "y", "z"]),
            st.sampled_from([None, "p", "q"]),
        ),
        max_size=40,
    ),
    st.booleans(),
    st.floats(0, 1),
    st.integers(0, 5),
)
@settings(max_examples=200)
def test_whatever_the_pool_planting_is_honest_and_repeatable(samples, clustered, rate, seed):
    captions = [" ".join(words) for words, _, _ in samples]
    labels = [label for _, label, _ in samples]
    clusters = [cluster for _, _, cluster in samples] if clustered else None
    counts = counts_of(len(samples), rate, EVERY_KIND)
    planted = plant(Texts(captions, labels, clusters), counts, seed, copies_per_source=3)
    for kind in PLANTED_KINDS:
        assert len(planted.rows(kind)) <= counts[kind]
    for row in planted.rows(Kind.mismatched):
        giver = planted.source_N[row]
        assert captions[giver] != captions[row] and planted.captions[row] == captions[giver]
        assert labels[row] is None or labels[row] != labels[giver]
    for row in planted.rows(Kind.near_duplicate):
        assert planted.kind_N[planted.source_N[row]] == Kind.untouched
    assert same(
        planted, plant(Texts(captions, labels, clusters), counts, seed, copies_per_source=3)
    )


def test_another_seed_plants_other_noise_in_other_rows():
    texts, counts = Texts(captions_of(500)), counts_of(500, 0.5, EVERY_KIND)
    one, other = plant(texts, counts, 0), plant(texts, counts, 1)
    for kind in PLANTED_KINDS:
        assert one.rows(kind).tolist() != other.rows(kind).tolist()


def test_the_noise_does_not_depend_on_what_other_kinds_would_need():
    # Labels of no row and no labels are one thing.
    captions, counts = captions_of(300), {Kind.mismatched: 100, Kind.truncated: 50}
    assert same(plant(Texts(captions), counts, 0), plant(Texts(captions, [None] * 300), counts, 0))


def test_too_few_rows_give_fewer_planted_ones():
    planted = plant(Texts(["one"] * 10), {Kind.mismatched: 5, Kind.hard_mismatched: 5}, 0)
    assert planted.counts() == {}
    assert plant(Texts([]), {Kind.boilerplate: 3}, 0).counts() == {}


@pytest.mark.parametrize("kind", PLANTED_KINDS)
def test_the_check_finds_a_planted_row_that_is_true(kind):
    texts = Texts(captions_of(300))
    planted = plant(texts, {kind: 100}, 0)
    row = int(planted.rows(kind)[0])
    forged = list(planted.captions)
    keeps_its_caption = kind in (Kind.near_duplicate, Kind.text_in_image)
    forged[row] = "nothing of the kind" if keeps_its_caption else texts.captions[row]
    with pytest.raises(DishonestNoiseError, match=f"row {row} is not {kind.name}"):
        check_honest(texts, dataclasses.replace(planted, captions=forged))


def test_the_check_finds_a_changed_row_that_is_called_untouched():
    texts = Texts(captions_of(300))
    planted = plant(texts, {Kind.truncated: 100}, 0)
    kinds = planted.kind_N.copy()
    kinds[planted.rows(Kind.truncated)[5]] = Kind.untouched
    with pytest.raises(DishonestNoiseError, match="is not untouched"):
        check_honest(texts, dataclasses.replace(planted, kind_N=kinds))


def test_the_check_finds_captions_exchanged_within_a_label():
    captions, labels = ["a", "b", "c", "d"], ["x", "y", "x", "y"]
    planted = plant(Texts(captions, labels), {Kind.mismatched: 4}, 0)
    with pytest.raises(DishonestNoiseError, match="is not mismatched"):
        check_honest(Texts(captions, ["x"] * 4), planted)


def test_doubtful_counts_what_captions_and_labels_cannot_rule_out():
    texts = Texts(["dog", "a black dog", "heart", "love"], [None, None, "heart", "kiss"])
    planted = plant(texts, {}, 0)
    exchanged = dataclasses.replace(
        planted,
        captions=[texts.captions[i] for i in (1, 0, 3, 2)],
        kind_N=np.full(4, Kind.mismatched, np.uint8),
        source_N=np.array([1, 0, 3, 2]),
    )
    assert doubtful(texts, exchanged) == {"says_the_same": 2, "stands_for_label": 0}
    # "love" at a heart is the right caption of another heart.
    more = Texts([*texts.captions, "love"], [None, None, "heart", "kiss", "heart"])
    grown = dataclasses.replace(
        exchanged,
        captions=[*exchanged.captions, "love"],
        kind_N=np.append(exchanged.kind_N, np.uint8(0)),
        source_N=np.append(exchanged.source_N, -1),
    )
    assert doubtful(more, grown) == {"says_the_same": 2, "stands_for_label": 1}
