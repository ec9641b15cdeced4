import numpy as np
import pytest

from selffilter.errors import UserError
from selffilter.scoring.embeddings.arrays import describe_npy, describe_npz


class Burst:
    """Does harm when it is unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f2", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("way", ["npy", "npz", "compressed"])
def test_a_matrix_of_floats_is_read_as_numpy_reads_it(way, order, dtype, tmp_path):
    array = np.asarray(np.arange(12).reshape(4, 3), dtype=dtype, order=order)
    if way == "npy":
        np.save(tmp_path / "a.npy", array)
        found = describe_npy(tmp_path / "a.npy")
    else:
        save = np.savez_compressed if way == "compressed" else np.savez
        save(tmp_path / "a.npz", before=np.zeros(5), matrix=array)
        found = describe_npz(tmp_path / "a.npz", "matrix")
    assert (found.shape, found.dtype) == ((4, 3), np.dtype(dtype))
    assert (found.offset is None) == (way == "compressed")
    read = found.load() if way == "compressed" else found.map()
    np.testing.assert_array_equal(read, array)


def test_a_file_without_rows_is_read(tmp_path):
    np.save(tmp_path / "a.npy", np.empty((0, 3), np.float16))
    assert describe_npy(tmp_path / "a.npy").map().shape == (0, 3)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(4, np.float16), r"shape \(4,\), not \(rows, width\)"),
        (np.zeros((2, 2, 2), np.float16), r"shape \(2, 2, 2\)"),
        (np.zeros((2, 2), np.int8), "holds int8, not float16"),
        (np.zeros((2, 2), np.complex64), "holds complex64"),
        (np.zeros((2, 0), np.float16), "width 0, not 1 to 65536"),
        (np.array([[Burst()]]), "holds object"),
    ],
)
def test_anything_else_is_refused_and_nothing_is_unpickled(array, message, tmp_path):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    np.savez(tmp_path / "a.npz", x=array)
    for describe in (
        lambda: describe_npy(tmp_path / "a.npy"),
        lambda: describe_npz(tmp_path / "a.npz", "x"),
    ):
        with pytest.raises(UserError, match=message):
            describe()


def test_a_header_that_promises_more_than_the_file_has_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 3), np.float16))
    raw = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(raw[:-1])
    with pytest.raises(UserError, match="breaks off: it says 4 rows of 3 float16 numbers"):
        describe_npy(tmp_path / "a.npy")
    (tmp_path / "a.npy").write_bytes(raw.replace(b"(4, 3)", b"(9**9, 3)"[:6]))
    with pytest.raises(UserError, match=r"a\.npy is no \.npy of numbers"):
        describe_npy(tmp_path / "a.npy")
    with pytest.raises(UserError, match=r"b\.npy is missing"):
        describe_npy(tmp_path / "b.npy")
