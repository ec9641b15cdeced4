import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selffilter.errors import UserError
from selffilter.pool import uids
from selffilter.pool.multiset import subset_of
from selffilter.pool.subset import (
    read_subset,
    read_subset_file,
    write_subset,
    write_subset_file,
)

TEXTS = ["ff" * 16, "00" * 15 + "01", "00" * 8 + "ff" * 8, "80" + "00" * 15, "7f" + "ff" * 15]


def test_the_file_is_datacomps(tmp_path):
    write_subset(tmp_path / "s.npy", uids.from_hex(TEXTS))
    subset = np.load(tmp_path / "s.npy", allow_pickle=False)
    assert subset.dtype == np.dtype("u8,u8")
    assert subset.dtype.names == ("f0", "f1")
    # As DataComp's resharder makes it from hex texts.
    made = np.array([(int(t[:16], 16), int(t[16:32], 16)) for t in TEXTS], np.dtype("u8,u8"))
    made.sort()
    np.testing.assert_array_equal(subset, made)


def test_it_is_sorted_as_the_hex_texts_are(tmp_path):
    write_subset(tmp_path / "s.npy", uids.from_hex(TEXTS))
    assert uids.to_hex(read_subset(tmp_path / "s.npy")) == sorted(TEXTS)


def test_a_uid_stands_as_often_as_its_weight(tmp_path):
    write_subset(tmp_path / "s.npy", uids.from_hex(TEXTS), np.array([0, 2, 1, 0, 3], np.int32))
    expected = sorted([TEXTS[1]] * 2 + [TEXTS[2]] + [TEXTS[4]] * 3)
    assert uids.to_hex(read_subset(tmp_path / "s.npy")) == expected


def test_an_empty_subset_is_a_file_too(tmp_path):
    write_subset(tmp_path / "s.npy", np.empty((0, 2), np.uint64))
    assert read_subset(tmp_path / "s.npy").shape == (0, 2)


@pytest.mark.parametrize(
    "array",
    [np.zeros(3), np.zeros((2, 2), "u8"), np.zeros((2, 2), "u8,u8"), np.zeros(2, "u8,u8,u8")],
)
def test_another_array_is_refused(tmp_path, array):
    np.save(tmp_path / "s.npy", array)
    with pytest.raises(UserError, match=r"s\.npy holds .* 'u8,u8'"):
        read_subset(tmp_path / "s.npy")


def test_a_file_that_would_run_code_is_refused(tmp_path):
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (ran.write_text, ("",))

    np.save(tmp_path / "s.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="not a DataComp subset file"):
        read_subset(tmp_path / "s.npy")
    assert not ran.exists()


@pytest.mark.parametrize("content", [b"", b"no numpy file", b"\x93NUMPY\x01\x00"])
def test_garbage_is_refused(tmp_path, content):
    (tmp_path / "s.npy").write_bytes(content)
    with pytest.raises(UserError, match="not a DataComp subset file"):
        read_subset(tmp_path / "s.npy")
    with pytest.raises(UserError, match="not a DataComp subset file"):
        read_subset(tmp_path / "missing.npy")


WEIGHTS = np.array([1, 2, 1, 3, 1], np.int64)


@pytest.mark.parametrize("name", ["s.npy", "s.parquet", "s.txt"])
@pytest.mark.parametrize("texts", [TEXTS, []])
def test_every_format_gives_back_what_was_written(tmp_path, name, texts):
    written = subset_of(uids.from_hex(texts), WEIGHTS[: len(texts)])
    write_subset_file(tmp_path / name, written)
    read = read_subset_file(tmp_path / name)
    np.testing.assert_array_equal(read.uids_N2, written.uids_N2)
    np.testing.assert_array_equal(read.weights_N, written.weights_N)


def test_the_formats_are_what_their_readers_expect(tmp_path):
    subset = subset_of(uids.from_hex(TEXTS), WEIGHTS)
    for name in ("s.npy", "s.parquet", "s.txt"):
        write_subset_file(tmp_path / name, subset)
    repeated = sorted(np.repeat(TEXTS, WEIGHTS).tolist())
    assert (tmp_path / "s.txt").read_text().splitlines() == repeated
    assert pq.read_table(tmp_path / "s.parquet").to_pydict() == {
        "uid": sorted(TEXTS),
        "weight": [int(WEIGHTS[TEXTS.index(t)]) for t in sorted(TEXTS)],
    }
    assert np.load(tmp_path / "s.npy").dtype == np.dtype("u8,u8")
    assert uids.to_hex(read_subset(tmp_path / "s.npy")) == repeated


def test_a_large_weight_is_written_piece_by_piece(tmp_path, monkeypatch):
    monkeypatch.setattr("selffilter.pool.subset._PIECE", 4)
    subset = subset_of(uids.from_hex(TEXTS), np.array([1, 11, 1, 1, 6], np.int64))
    for name in ("s.npy", "s.txt", "s.parquet"):
        write_subset_file(tmp_path / name, subset)
        read = read_subset_file(tmp_path / name)
        assert read.samples == 20
        np.testing.assert_array_equal(read.weights_N, subset.weights_N)


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["", *TEXTS]).slice(1),
        pa.array(TEXTS, pa.large_string()),
        pa.array([t.upper() for t in TEXTS]),
        pa.array(TEXTS).dictionary_encode(),
        uids.to_arrow(uids.from_hex(TEXTS)),
    ],
)
def test_a_parquet_of_uids_alone_has_weights_of_one(tmp_path, column):
    pq.write_table(pa.table({"url": ["x"] * 5, "uid": column}), tmp_path / "meta.parquet")
    read = read_subset_file(tmp_path / "meta.parquet")
    assert uids.to_hex(read.uids_N2) == sorted(TEXTS)
    assert read.weights_N.tolist() == [1] * 5


@pytest.mark.parametrize("text", ["{}\r\n\r\n{}\r\n", "{}\n{}", "\n  {}\t\n\n{}\n\n"])
def test_lines_end_as_they_like(tmp_path, text):
    (tmp_path / "s.txt").write_bytes(text.format(*TEXTS[:2]).encode())
    assert uids.to_hex(read_subset_file(tmp_path / "s.txt").uids_N2) == sorted(TEXTS[:2])


def test_a_text_is_read_in_pieces_that_end_with_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr("selffilter.pool.subset._TEXT_PIECE", 50)
    (tmp_path / "s.txt").write_text("\n".join(TEXTS * 4))
    read = read_subset_file(tmp_path / "s.txt")
    assert uids.to_hex(read.uids_N2) == sorted(TEXTS) and set(read.weights_N.tolist()) == {4}
    (tmp_path / "s.txt").write_text("\n".join([*TEXTS, "0x" + TEXTS[0][2:]]))
    with pytest.raises(UserError, match=r"line 6: '0xff.*' is not 32 hex digits"):
        read_subset_file(tmp_path / "s.txt")


@pytest.mark.parametrize(
    "line", ["abc", "f" * 33, "f" * 31 + "g", "f" * 16 + "\n" + "f" * 16, "\xff" * 32, "f" * 64]
)
def test_a_line_that_is_no_uid_is_named(tmp_path, line):
    (tmp_path / "s.txt").write_text(f"{TEXTS[0]}\n\n{line}\n{TEXTS[1]}\n", encoding="latin-1")
    with pytest.raises(UserError, match=r"line 3: .* is not 32 hex digits"):
        read_subset_file(tmp_path / "s.txt")


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"id": TEXTS}, "no column uid; it has id"),
        ({"uid": ["abc"]}, "not 32 hex digits"),
        ({"uid": ["f" * 31, "f" * 33]}, "not 32 hex digits"),
        ({"uid": ["é" * 16]}, "not 32 hex digits"),
        ({"uid": [1, 2]}, "uid holds int64"),
        ({"uid": [TEXTS[0], None]}, "1 rows have no uid"),
        ({"uid": TEXTS[:1], "weight": [1.5]}, "weight is double"),
        ({"uid": TEXTS[:1], "weight": [-1]}, "a weight is -1"),
        ({"uid": TEXTS[:1], "weight": [2**40]}, "a weight is 1099511627776"),
    ],
)
def test_another_parquet_is_refused(tmp_path, columns, says):
    pq.write_table(pa.table(columns), tmp_path / "s.parquet")
    with pytest.raises(UserError, match=says):
        read_subset_file(tmp_path / "s.parquet")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("s.csv", "ends in .npy, .parquet or .txt"),
        ("gone.txt", "there is no subset file"),
        ("s.parquet", "is not a Parquet file"),
    ],
)
def test_another_file_is_refused(tmp_path, name, says):
    (tmp_path / "s.csv").write_text("uid\n")
    (tmp_path / "s.parquet").write_text("uid\n")
    with pytest.raises(UserError, match=says):
        read_subset_file(tmp_path / name)
