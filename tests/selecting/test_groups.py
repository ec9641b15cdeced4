import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selffilter.selecting import groups as groups_module
from selffilter.selecting.groups import CAPTION_CHARS, UNKNOWN, Groups, bucketed

CODES = st.lists(st.integers(-1, 3), max_size=60).map(lambda x: np.array(x, np.int32))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Cut tables of a few rows into several chunks."""
    default = groups_module.chunks
    monkeypatch.setattr(groups_module, "chunks", lambda rows: default(rows, 7))


def groups_of(codes, names=("a", "b", "c", "d")):
    return Groups("letter", np.asarray(codes, np.int32), list(names))


def test_rows_are_counted_by_group_and_the_unknown_come_last():
    groups = groups_of([0, 0, 1, UNKNOWN, 3, 0])
    assert groups.counts().tolist() == [3, 1, 0, 1, 1]
    assert groups.counts()[UNKNOWN] == 1
    assert groups.counts(np.array([1, 0, 1, 1, 0, 1], bool)).tolist() == [2, 1, 0, 0, 1]
    assert groups.counts(np.array([2, 0, 5, 1, 0, 1])).tolist() == [3, 5, 0, 0, 1]
    assert len(groups) == 4


def test_rows_are_counted_by_their_numbers_too():
    groups = groups_of([0, 0, 1, UNKNOWN, 3, 0])
    assert groups.counts_of_rows(np.array([5, 2, 2, 3])).tolist() == [1, 2, 0, 0, 1]
    weights = np.array([7, 1, 1, 2], np.uint16)
    assert groups.counts_of_rows(np.array([5, 2, 2, 3]), weights).tolist() == [7, 2, 0, 0, 2]


@given(CODES, st.data())
def test_counts_add_up_and_every_way_of_counting_agrees(codes, data):
    groups = groups_of(codes)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(codes), max_size=len(codes))))
    mask = mask.astype(bool)
    assert groups.counts().sum() == len(codes)
    assert groups.counts(mask).sum() == mask.sum()
    for same in (
        groups.counts(mask.astype(np.uint16)),
        groups.counts_of_rows(np.flatnonzero(mask)),
        groups.counts() - groups.counts(~mask),
    ):
        assert same.tolist() == groups.counts(mask).tolist()


def test_large_weights_are_counted_exactly():
    counted = groups_of([0, 0, 1]).counts(np.array([2**31 - 1, 2**31 - 1, 3]))
    assert counted.tolist() == [2**32 - 2, 3, 0, 0, 0]


@pytest.mark.parametrize(
    ("codes", "names"),
    [
        (np.array([0, 4], np.int32), list("abcd")),
        (np.array([-2], np.int32), list("ab")),
        (np.array([0, 1], np.int64), list("ab")),
        (np.zeros((2, 2), np.int32), list("ab")),
    ],
    ids=["too high", "too low", "int64", "two axes"],
)
def test_codes_have_to_be_places_in_the_names(codes, names):
    with pytest.raises(ValueError, match="letter"):
        Groups("letter", codes, names)


def test_weights_of_another_length_are_refused():
    with pytest.raises(ValueError, match="2 weights for 3 rows"):
        groups_of([0, 1, 1]).counts(np.array([1, 2]))
    with pytest.raises(ValueError, match="1 weights for 2 rows"):
        groups_of([0, 1, 1]).counts_of_rows(np.array([0, 1]), np.array([1]))


class TestBuckets:
    def test_of_caption_lengths_have_inclusive_upper_bounds(self):
        chars = np.array([0, 1, 10, 11, 25, 26, 200, 201, 100_000], np.uint32)
        groups = bucketed("caption_chars", chars, CAPTION_CHARS)
        assert groups.names == ["1-10", "11-25", "26-50", "51-100", "101-200", ">200"]
        assert groups.codes_N.tolist() == [UNKNOWN, 0, 0, 1, 1, 2, 4, 5, 5]
        assert groups.name == "caption_chars"

    def test_of_one_number_are_named_by_it(self):
        groups = bucketed("weight", np.array([1, 2, 3, 4, 5]), [1, 2, 4])
        assert groups.names == ["1", "2", "3-4", ">4"]
        assert groups.codes_N.tolist() == [0, 1, 2, 2, 3]

    def test_of_real_numbers_are_named_as_intervals(self):
        values = np.array([np.nan, -1, 0, 0.5, 0.50001, 2], np.float32)
        groups = bucketed("ratio", values, [0.5, 1], first=0)
        assert groups.names == ["[0, 0.5]", "(0.5, 1]", ">1"]
        assert groups.codes_N.tolist() == [UNKNOWN, UNKNOWN, 0, 0, 1, 2]

    @pytest.mark.parametrize("bounds", [[], [10, 10], [20, 10], [0, 5]])
    def test_need_bounds_that_ascend(self, bounds):
        with pytest.raises(ValueError, match="do not ascend"):
            bucketed("x", np.arange(5), bounds)

    @given(st.lists(st.integers(0, 300), max_size=40))
    def test_hold_what_their_names_say(self, values):
        groups = bucketed("x", np.array(values, np.int64), CAPTION_CHARS)
        for value, code in zip(values, groups.codes_N, strict=True):
            if code == UNKNOWN:
                assert value < 1
            elif code == len(CAPTION_CHARS):
                assert value > 200
            else:
                low, high = map(int, groups.names[code].split("-"))
                assert low <= value <= high
