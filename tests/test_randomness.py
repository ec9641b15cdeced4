import hashlib
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selffilter.randomness import below_fraction, draw, hash_rows, key_from, shuffled, uniform

WORD = 2**64
ROWS = st.lists(st.integers(0, 10**12), unique=True, max_size=60)


def splitmix(row, key):
    """Two splitmix64 finalisers in plain integers, the key going in at both."""
    h = (row * 0x9E3779B97F4A7C15 + key) % WORD
    for _ in range(2):
        h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9 % WORD
        h = (h ^ (h >> 27)) * 0x94D049BB133111EB % WORD
        h = ((h ^ (h >> 31)) + key) % WORD
    return h


def array(rows):
    return np.array(rows, dtype=np.int64)


def test_the_hash_is_splitmix64_in_plain_integers():
    rows = [0, 1, 2, 12345, 10**9, 2**62]
    for parts in [(0,), (7, "order", 3), ("x", -1)]:
        assert hash_rows(array(rows), *parts).tolist() == [
            splitmix(row, key_from(*parts)) for row in rows
        ]


def test_the_order_of_a_run_begun_with_an_older_version_stays():
    assert key_from(0, "order", 1) == int.from_bytes(
        hashlib.blake2b(b"int:0\x1fstr:order\x1fint:1", digest_size=8).digest(), "little"
    )
    assert shuffled(np.arange(8), 0, "order", 1).tolist() == [4, 2, 3, 7, 6, 5, 1, 0]


def test_a_key_depends_on_every_part_its_type_and_their_order():
    keys = [(1, 2), (2, 1), ("1", 2), (1, "2"), (12,), ("12",), (1, 2, 0), ("1\x1f2",), ()]
    assert len({key_from(*key) for key in keys}) == len(keys)


@given(ROWS, st.randoms())
def test_a_shuffle_depends_on_the_set_of_rows_alone(rows, rng):
    again = list(rows)
    rng.shuffle(again)
    once = shuffled(array(rows), 5, "a").tolist()
    assert once == shuffled(array(again), 5, "a").tolist()
    assert sorted(once) == sorted(rows)


def test_a_shuffle_puts_each_row_at_each_place_equally_often():
    orders = np.array([shuffled(np.arange(6), seed) for seed in range(6000)])
    for place in range(6):
        counts = np.bincount(orders[:, place], minlength=6)
        assert abs(counts - 1000).max() < 5 * np.sqrt(1000 * 5 / 6)


@given(ROWS, st.floats(0, 1), st.randoms())
def test_a_draw_has_the_size_asked_for_ascending_whatever_the_order_of_rows(rows, share, rng):
    count = round(share * len(rows))
    drawn = draw(array(rows), count, 3).tolist()
    again = list(rows)
    rng.shuffle(again)
    assert len(drawn) == count
    assert drawn == sorted(set(drawn))
    assert set(drawn) <= set(rows)
    assert drawn == draw(array(again), count, 3).tolist()


def test_a_draw_is_uniform_and_anew_for_each_key():
    drawn = [draw(np.arange(40), 10, "seed", seed) for seed in range(2000)]
    counts = np.bincount(np.concatenate(drawn), minlength=40)
    assert abs(counts - 500).max() < 5 * np.sqrt(2000 * 0.25 * 0.75)
    assert len({tuple(rows) for rows in drawn}) > 1990


def test_a_draw_larger_than_the_rows_is_refused():
    with pytest.raises(ValueError, match="cannot draw 4 of 3"):
        draw(np.arange(3), 4, 0)
    with pytest.raises(ValueError, match="cannot draw -1"):
        draw(np.arange(3), -1, 0)


def test_a_fraction_is_marked_and_rows_added_later_change_no_mark():
    rows = np.arange(100_000)
    marked = below_fraction(rows, 0.03, 1, "probe")
    assert abs(marked.sum() - 3000) < 5 * np.sqrt(3000)
    np.testing.assert_array_equal(below_fraction(rows[:500], 0.03, 1, "probe"), marked[:500])
    assert not (below_fraction(rows, 0.03, 2, "probe") & marked).all()
    assert not below_fraction(rows, 0.0, 1).any()
    assert below_fraction(rows, 1.0, 1).all()


def test_uniform_numbers_fill_the_unit_interval_and_never_reach_one():
    numbers = uniform(np.arange(100_000), 3, "u")
    assert numbers.min() >= 0 and numbers.max() < 1
    counts, _ = np.histogram(numbers, bins=20, range=(0, 1))
    assert abs(counts - 5000).max() < 5 * np.sqrt(5000)
    np.testing.assert_array_equal(uniform(np.array([7, 3]), 3, "u"), numbers[[7, 3]])
    assert (uniform(np.arange(100), 4, "u") != numbers[:100]).all()


def test_no_generator_of_the_process_is_touched():
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state()
    draw(np.arange(10), 3, 0)
    shuffled(np.arange(10), 0)
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.random.get_rng_state(), states[2])
