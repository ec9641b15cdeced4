import numpy as np
import pytest

from selffilter.errors import UserError
from selffilter.pool import uids
from selffilter.pool.subset import read_subset, write_subset

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
