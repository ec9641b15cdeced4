import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selffilter.pool import uids

HEX = st.lists(st.binary(min_size=16, max_size=16).map(bytes.hex), max_size=20)


@given(HEX)
def test_hex_arrow_and_pairs_say_the_same(texts):
    pairs = uids.from_hex(texts)
    assert pairs.shape == (len(texts), 2)
    assert pairs.tolist() == [[int(t[:16], 16), int(t[16:], 16)] for t in texts]
    assert uids.to_hex(pairs) == texts
    column = uids.to_arrow(pairs)
    assert [value.as_py().hex() for value in column] == texts
    assert uids.from_arrow(column).tolist() == pairs.tolist()


@given(st.lists(st.integers(0, 8), max_size=20))
def test_uids_of_any_rows_are_gathered_and_each_shard_is_read_once(rows):
    first_row, read = np.array([0, 3, 3, 7, 9]), []
    every = np.arange(18, dtype=np.uint64).reshape(9, 2)

    def uids_of_shard(shard):
        read.append(shard)
        return every[first_row[shard] : first_row[shard + 1]]

    found = uids.gather(np.array(rows, np.int64), first_row, uids_of_shard)
    assert found.tolist() == [every[row].tolist() for row in rows]
    assert sorted(read) == sorted({(0, 2, 3)[(row >= 3) + (row >= 7)] for row in rows})


@given(HEX, HEX)
def test_a_table_of_uids_tells_place_and_times(known, asked):
    known = known + known[::3]
    table = uids.UidTable(uids.from_hex(known))
    asked = asked + known[:5]
    places = table.places(uids.from_hex(asked)).tolist()
    assert places == [known.index(text) if text in known else -1 for text in asked]
    assert table.times(uids.from_hex(asked)).tolist() == [known.count(text) for text in asked]


def test_uids_that_share_their_first_half_are_told_apart():
    known = ["a" * 16 + f"{i:016x}" for i in range(5)]
    table = uids.UidTable(uids.from_hex(known))
    asked = [known[3], "a" * 16 + "f" * 16, known[0]]
    assert table.places(uids.from_hex(asked)).tolist() == [3, -1, 0]


@given(HEX, st.integers(0, 20), st.integers(0, 20))
def test_parts_of_a_column_and_columns_in_chunks_are_read_right(texts, start, length):
    column = pa.array([bytes.fromhex(t) for t in texts], uids.UID_TYPE)
    part = column.slice(min(start, len(texts)), length)
    expected = texts[start : start + length]
    assert uids.to_hex(uids.from_arrow(part)) == expected
    chunked = pa.chunked_array([part, column], uids.UID_TYPE)
    assert uids.to_hex(uids.from_arrow(chunked)) == expected + texts


@pytest.mark.parametrize(
    "texts", [["ab"], ["0" * 31], ["0" * 30, "1" * 34], ["g" * 32], ["0 " * 16], ["0" * 32, ""]]
)
def test_texts_that_are_not_32_hex_digits_each_are_refused(texts):
    with pytest.raises(ValueError):
        uids.from_hex(texts)


def test_capitals_are_the_same_uid():
    assert uids.to_hex(uids.from_hex(["ABCDEF" + "0" * 26])) == ["abcdef" + "0" * 26]
    assert uids.uid_bytes("A" * 32, "s", "t", "k") == bytes.fromhex("a" * 32)


def test_a_uid_of_the_place_differs_between_sources_shards_and_keys():
    places = [
        ("s", "0.tar", "k"),
        ("t", "0.tar", "k"),
        ("s", "1.tar", "k"),
        ("s", "0.tar", "l"),
        ("s0.tar", "", "k"),
        ("s", "0.tark", ""),
    ]
    found = {uids.uid_bytes(None, *place) for place in places}
    assert len(found) == len(places)
    assert {len(uid) for uid in found} == {16}


@pytest.mark.parametrize("stated", [None, 5, "", "a" * 31, "a" * 33, "a" * 32 + "\n", b"a" * 32])
def test_what_has_not_32_hex_digits_is_no_uid(stated):
    assert uids.uid_bytes(stated, "s", "t", "k") == uids.uid_bytes(None, "s", "t", "k")
