"""Each kind of noise does what docs/noise.md says, in as many rows as asked for, and repeatably."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selffilter.pool.noise import neighbours, truncated
from selffilter.pool.noise.boilerplate import TEMPLATES, add_boilerplate
from selffilter.pool.noise.hard_mismatched import mismatch_hard
from selffilter.pool.noise.near_duplicates import flood, vary_caption
from selffilter.pool.noise.texts import Texts, content_words, repeated_share, words_of
from selffilter.pool.noise.truncated import truncate_caption, truncate_some

WORDS = [
    "a",
    "the",
    "red",
    "black",
    "cat",
    "cats",
    "dog",
    "bird",
    "house",
    "glass",
    "tree",
    "1",
    "2",
    "ключ",
    "犬",
]
CAPTION = st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join)


def all_rows(texts):
    return np.arange(len(texts), dtype=np.int64)


def things(count):
    """Captions that each share a word with some others, and with none both words."""
    return [f"thing{i // 10} colour{i % 10}" for i in range(count)]


# boilerplate


def test_boilerplate_stands_in_exactly_the_rows_asked_for_and_in_free_ones_only():
    texts = Texts(things(1000))
    free = np.arange(0, 1000, 2, dtype=np.int64)
    part = add_boilerplate(texts, free, 300, seed=0)
    assert len(set(part.rows_n.tolist())) == len(part.captions) == 300
    assert set(part.rows_n.tolist()) <= set(free.tolist())
    assert (part.source_n == -1).all()
    assert len(add_boilerplate(texts, free, 600, seed=0).rows_n) == 500


def test_boilerplate_has_a_long_tail_and_counters():
    texts = Texts(things(20_000))
    captions = add_boilerplate(texts, all_rows(texts), 20_000, seed=0).captions
    counts = Counter(captions)
    harmonic = sum(1 / k for k in range(1, len(TEMPLATES) + 1))
    for rank, template in enumerate(TEMPLATES, 1):
        if "{" not in template:
            assert counts[template] / 20_000 == pytest.approx(1 / rank / harmonic, rel=0.15)
    # Counters make some of them look different from each other.
    assert len([c for c in counts if c.startswith("DSC_")]) > 1000
    assert {c for c in counts if c.startswith("image 1 of")} == {
        f"image 1 of {n}" for n in range(2, 21)
    }


def test_boilerplate_is_not_planted_where_it_stands_already():
    texts = Texts(["Untitled", "click to ENLARGE!", "photo by admin: thumbnail"] * 300)
    part = add_boilerplate(texts, all_rows(texts), 900, seed=0)
    for row, caption in zip(part.rows_n, part.captions, strict=True):
        assert not words_of(caption) <= words_of(texts.captions[row])


# truncated


@given(CAPTION, st.floats(0, 1, exclude_max=True))
def test_a_cut_caption_is_the_beginning_and_has_lost_a_word(caption, where):
    cut = truncate_caption(caption, where)
    if cut is None:
        tokens = caption.split()
        assert len(set(tokens)) < 2 and (len(tokens) != 1 or len(tokens[0]) == 1)
        return
    assert caption.startswith(cut)
    assert words_of(cut)
    assert not words_of(caption) <= words_of(cut)


@pytest.mark.parametrize(
    ("caption", "where", "left"),
    [
        ("a black dog runs", 0.0, "a"),
        ("a black dog runs", 0.99, "a black"),
        ("dog, black", 0.0, "dog"),
        ("- dog - black", 0.0, "- dog"),
        ("dog dog dog cat", 0.0, "dog"),
        ("crawfish", 0.0, "c"),
        ("crawfish", 0.99, "craw"),
        ("犬猫鳥", 0.0, "犬"),
        ("dog dog", 0.5, None),
        ("a", 0.5, None),
        ("!!", 0.5, None),
        ("", 0.5, None),
    ],
)
def test_where_captions_are_cut(caption, where, left):
    assert truncate_caption(caption, where) == left


@pytest.mark.parametrize("caption", ["a " * 300_000, "!" * 600_000 + " b c", "a" + "-" * 600_000])
def test_a_hostile_caption_is_cut_or_left_in_good_time(caption, monkeypatch):
    looks = []
    monkeypatch.setattr(truncated, "words_of", lambda text: looks.append(text) or words_of(text))
    truncate_caption(caption, 0.9)
    assert len(looks) < 100


def test_only_captions_that_lose_something_are_cut_and_all_of_them_if_need_be():
    texts = Texts(["a", "two words", "dog dog", "three more words"] * 100)
    part = truncate_some(texts, all_rows(texts), 150, seed=0)
    assert len(part.rows_n) == 150
    assert set((part.rows_n % 4).tolist()) == {1, 3}
    everything = truncate_some(texts, all_rows(texts), 400, seed=0)
    assert sorted(set((everything.rows_n % 4).tolist())) == [1, 3]
    assert len(everything.rows_n) == 200


# hard mismatches


def assert_exchanged(texts, part):
    """Check that captions went round, and that each says something that the old one did not."""
    assert sorted(part.source_n.tolist()) == sorted(part.rows_n.tolist())
    for row, giver, caption in zip(
        part.rows_n.tolist(), part.source_n.tolist(), part.captions, strict=True
    ):
        assert caption == texts.captions[giver]
        mine, its = (content_words(texts.keys_N[r]) for r in (row, giver))
        assert not mine <= its and not its <= mine


@given(st.lists(st.tuples(CAPTION, st.sampled_from([None, "x", "y"])), max_size=30), st.data())
def test_hard_mismatches_are_wrong_as_far_as_captions_and_labels_can_tell(samples, data):
    labels = [label for _, label in samples]
    clusters = data.draw(
        st.none() | st.lists(st.sampled_from([None, "p", "q"]), min_size=len(samples),
                             max_size=len(samples))
    )  # fmt: skip
    texts = Texts([c for c, _ in samples], labels, clusters)
    count = data.draw(st.integers(0, len(samples)))
    part = mismatch_hard(texts, all_rows(texts), count, seed=0)
    assert len(part.rows_n) <= count
    assert_exchanged(texts, part)
    known = set(zip(labels, texts.keys_N, strict=True))
    for row, giver in zip(part.rows_n.tolist(), part.source_n.tolist(), strict=True):
        if labels[row]:
            assert labels[row] != labels[giver] or texts.labels_are_clusters
            assert (labels[row], texts.keys_N[giver]) not in known or texts.labels_are_clusters
        if clusters is None:
            assert content_words(texts.keys_N[row]) & content_words(texts.keys_N[giver])
        else:
            assert clusters[row] and clusters[row] == clusters[giver]


@pytest.mark.parametrize("count", [0, 2, 3, 7, 100, 333, 500])
def test_exactly_as_many_hard_mismatches_as_asked_for_odd_or_even(count):
    texts = Texts(things(1000))
    part = mismatch_hard(texts, all_rows(texts), count, seed=0)
    assert len(part.rows_n) == count
    assert_exchanged(texts, part)


def test_a_ring_of_three_is_alike_all_round():
    # The second is alike to both others, which have nothing to say to each other.
    filler = [f"word{i} other{i}" for i in range(6)]
    texts = Texts([*filler, "a black", "a the", "the red"])
    part = mismatch_hard(texts, all_rows(texts), 3, seed=0)
    assert len(part.rows_n) == 2
    alike = Texts([*filler, "cat eats mouse", "cat eats fish", "cat eats bird"])
    assert mismatch_hard(alike, all_rows(alike), 3, seed=0).rows_n.tolist() == [6, 7, 8]


def test_one_row_alone_cannot_be_exchanged():
    texts = Texts(things(100))
    assert len(mismatch_hard(texts, all_rows(texts), 1, seed=0).rows_n) == 0


def test_partners_are_the_rows_with_the_rarest_words_in_common():
    # "the" stands everywhere and says nothing; each animal stands twice.
    animals = [f"animal{i}" for i in range(100)]
    captions = [f"the {a} {verb}{i}" for i, a in enumerate(animals) for verb in ("eats", "sleeps")]
    texts = Texts(captions)
    part = mismatch_hard(texts, all_rows(texts), 200, seed=0)
    assert len(part.rows_n) == 200
    assert (part.rows_n // 2 == part.source_n // 2).all()


def test_captions_that_share_only_what_everybody_says_are_no_neighbours():
    texts = Texts([f"the word{i} that{i} is{i} here{i} alone{i}" for i in range(300)])
    assert len(mismatch_hard(texts, all_rows(texts), 300, seed=0).rows_n) == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [("dog", "a black dog"), ("cats, black", "black cat"), ("Dog!", "dog"), ("dog cat", "cat dog")],
)
def test_a_caption_that_may_be_true_of_the_other_is_not_given_to_it(one, other):
    texts = Texts([one, other], clusters=["c", "c"])
    assert len(mismatch_hard(texts, all_rows(texts), 2, seed=0).rows_n) == 0


def test_a_caption_that_stands_at_the_other_label_too_is_not_given_to_it():
    texts = Texts(["red heart", "red love", "red love"], ["heart", "kiss", "heart"])
    assert len(mismatch_hard(texts, np.array([0, 1]), 2, seed=0).rows_n) == 0


def test_clusters_that_are_the_labels_do_not_forbid_each_other():
    texts = Texts(["red cat", "old dog", "big bus", "new car"], list("aabb"), list("aabb"))
    part = mismatch_hard(texts, all_rows(texts), 4, seed=0)
    assert dict(zip(part.rows_n.tolist(), part.source_n.tolist(), strict=True)) == {
        0: 1, 1: 0, 2: 3, 3: 2,
    }  # fmt: skip


@pytest.mark.parametrize("clustered", [False, True])
def test_partners_are_found_although_few_candidates_are_looked_at(clustered, monkeypatch):
    monkeypatch.setattr(neighbours, "LOOK_AT", 4)
    captions = things(1000)
    texts = Texts(captions, clusters=[c.split()[1] for c in captions] if clustered else None)
    part = mismatch_hard(texts, all_rows(texts), 900, seed=0)
    assert len(part.rows_n) == 900
    assert_exchanged(texts, part)


# near-duplicates


def test_a_flood_takes_over_exactly_the_rows_asked_for_and_leaves_its_sources():
    texts = Texts(things(1000))
    made = flood(texts, all_rows(texts), 400, seed=0, copies_per_source=40)
    rows, sources = made.part.rows_n.tolist(), set(made.sources_S.tolist())
    assert len(set(rows)) == 400
    assert len(sources) == 10
    assert not sources & set(rows)
    copies = Counter(made.part.source_n.tolist())
    assert set(copies) == sources
    sizes = sorted(copies.values(), reverse=True)
    assert sizes[0] > 3 * 40 and sizes[-1] < 40  # a long tail


@given(st.integers(0, 40), st.integers(0, 60), st.floats(1, 80))
def test_a_flood_of_any_size_leaves_each_source_a_copy(rows, count, copies_per_source):
    texts = Texts(things(rows))
    made = flood(texts, all_rows(texts), count, 0, copies_per_source)
    assert set(made.part.source_n.tolist()) == set(made.sources_S.tolist())
    assert not set(made.part.rows_n.tolist()) & set(made.sources_S.tolist())
    sources = max(1, round(min(count, rows) / copies_per_source))
    assert len(made.part.rows_n) == max(0, min(count, rows - sources))


def test_only_usable_images_are_copied():
    texts = Texts(things(100))
    made = flood(texts, all_rows(texts), 30, 0, 5, is_usable=lambda row: row % 7 == 0)
    assert len(made.part.rows_n) == 30
    assert (made.sources_S % 7 == 0).all()
    assert len(flood(texts, all_rows(texts), 30, 0, 5, is_usable=lambda _: False).part.rows_n) == 0


@given(st.text(max_size=12), st.floats(0, 1, exclude_max=True))
def test_a_copys_caption_says_all_that_the_sources_did(caption, which):
    assert words_of(caption) <= words_of(vary_caption(caption, which))


def test_most_copies_keep_the_caption_as_it_is():
    varied = [vary_caption("A Dog", i / 1000) for i in range(1000)]
    assert varied.count("A Dog") == 600
    assert {"a dog", "A DOG", "A Dog.", "A Dog (2)", "A Dog (9)"} < set(varied)


# texts


def test_repeated_share_counts_rows_whose_caption_stands_elsewhere():
    assert repeated_share(["a dog", "A dog!", "cat", "bird", "bird", "bird"]) == pytest.approx(
        5 / 6
    )
    assert repeated_share(["a", "b"]) == 0
    assert repeated_share([]) == 0


def test_plurals_and_case_do_not_make_other_content():
    assert content_words("two cats and a bus") == content_words("a cat bus and two")
    assert content_words("glass") != content_words("glas")
    assert content_words("gas") == {"gas"}
