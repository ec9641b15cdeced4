import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from selffilter.pool.coalesce import coalesce

PIECES = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 300)), max_size=40)


def ranges_of(pieces, max_gap, **kwargs):
    start = np.array([s for s, _ in pieces], dtype=np.int64)
    size = np.array([n for _, n in pieces], dtype=np.int64)
    return coalesce(start, size, max_gap, **kwargs)


@given(PIECES, st.integers(0, 400), st.integers(1, 1000))
def test_every_piece_lies_in_its_range_and_ranges_do_not_overlap(pieces, max_gap, split):
    found = ranges_of(pieces, max_gap, split_bytes=split)
    for (start, size), number in zip(pieces, found.range_N.tolist(), strict=True):
        assert found.start_R[number] <= start
        assert start + size <= found.end_R[number]
    assert (found.start_R[1:] >= found.end_R[:-1]).all()


@given(PIECES, st.integers(0, 400))
def test_ranges_are_parted_by_more_than_the_gap_and_hold_no_larger_one(pieces, max_gap):
    found = ranges_of(pieces, max_gap)
    assert (found.start_R[1:] - found.end_R[:-1] > max_gap).all()
    for number, (start, end) in enumerate(zip(found.start_R, found.end_R, strict=True)):
        mine = sorted(p for p, r in zip(pieces, found.range_N, strict=True) if r == number)
        reached = start
        for at, size in mine:
            assert at - reached <= max_gap
            reached = max(reached, at + size)
        assert reached == end


def test_a_long_range_is_cut_between_pieces():
    pieces = [(i * 100, 100) for i in range(50)]
    found = ranges_of(pieces, 0, split_bytes=1000)
    assert found.start_R.tolist() == list(range(0, 5000, 1000))
    assert found.end_R.tolist() == list(range(1000, 6000, 1000))


def test_nothing_is_asked_for_nothing():
    assert ranges_of([], 10).start_R.tolist() == []
