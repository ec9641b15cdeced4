import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from selffilter.errors import UserError
from selffilter.scoring.embeddings.datacomp import open_datacomp
from tests.scoring.embeddings.written import datacomp

WIDTH = 4


@pytest.fixture
def parts():
    random = np.random.default_rng(0)
    return [
        (
            f"{number:032x}",
            random.standard_normal((size, WIDTH)).astype(np.float16),
            random.standard_normal((size, WIDTH)).astype(np.float16),
            random.integers(0, 2**62, size).tolist(),
        )
        for number, size in enumerate((3, 5, 1))
    ]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("model", ["b32", "l14"])
def test_both_models_embeddings_are_read_in_the_order_of_the_names(
    model, compressed, parts, tmp_path
):
    embeddings = open_datacomp(datacomp(tmp_path, parts, compressed), model)
    times = {"b32": 1, "l14": 2}[model]
    assert (embeddings.rows, embeddings.width) == (9, WIDTH * times)
    assert embeddings.sides == ("image", "text")
    for side, place in (("image", 1), ("text", 2)):
        stored = np.concatenate([np.tile(part[place], times) for part in parts]).astype("f4")
        expected = torch.from_numpy(stored / np.linalg.norm(stored, axis=1, keepdims=True))
        torch.testing.assert_close(embeddings.read(side, 0, 9), expected, rtol=0, atol=1e-6)
        for start, stop in ((0, 1), (2, 4), (3, 8), (8, 9), (1, 99)):
            part = embeddings.read(side, start, stop)
            assert torch.equal(part, embeddings.read(side, 0, 9)[start:stop])
        rows = np.array([8, 0, 4, 3, 4])
        torch.testing.assert_close(embeddings.gather(side, rows), expected[rows], rtol=0, atol=1e-6)
        assert embeddings.gather(side, rows[:0]).shape == (0, WIDTH * times)
    arrays = [array for part in embeddings.parts for array in part.arrays.values()]
    assert {array.offset is not None for array in arrays} == {not compressed}


def test_uids_and_the_precomputed_cosines_come_row_by_row(parts, tmp_path):
    embeddings = open_datacomp(datacomp(tmp_path, parts), "b32")
    assert embeddings.uids()[:, 1].tolist() == [uid for part in parts for uid in part[3]]
    expected = np.concatenate([(i * t).sum(1) for _, i, t, _ in parts]).astype(np.float32)
    np.testing.assert_array_equal(embeddings.column("clip_b32_similarity_score"), expected)
    given = embeddings.column("clip_l14_similarity_score")
    np.testing.assert_array_equal(given, [np.nan, 1, 2, np.nan, 1, 2, 3, 4, np.nan])
    with pytest.raises(UserError, match="no column 'clip_b16' of numbers; it has uid, text"):
        embeddings.column("clip_b16")
    with pytest.raises(UserError, match="no column 'text' of numbers"):
        embeddings.column("text")
    with pytest.raises(UserError, match="does not say which rows of a pool"):
        embeddings.pool_rows()


def spoil_rows(folder, parts):
    stem, images, texts, uids = parts[1]
    datacomp(folder, [(stem, images, texts, uids)])
    table = pq.read_table(folder / f"{stem}.parquet", partitioning=None)
    pq.write_table(table.slice(1), folder / f"{stem}.parquet")


def spoil_one_side(folder, parts):
    stem, images, texts, uids = parts[1]
    datacomp(folder, [(stem, images, texts, uids)])
    np.savez(folder / f"{stem}.npz", b32_img=images, b32_txt=texts[1:])


def spoil_width(folder, parts):
    stem, images, texts, uids = parts[1]
    datacomp(folder, [(stem, np.tile(images, 3), np.tile(texts, 3), uids)])


def spoil_uid(folder, parts):
    stem = parts[1][0]
    table = pq.read_table(folder / f"{stem}.parquet", partitioning=None)
    column = pa.array([None, *table["uid"].to_pylist()[1:]])
    pq.write_table(table.set_column(0, "uid", column), folder / f"{stem}.parquet")


SPOILT = {
    "rows": (spoil_rows, "has 5 rows, but .* has 4: they must be aligned row by row"),
    "one side": (spoil_one_side, r"\(b32_txt.npy\) has 4 rows, but .* has 5"),
    "width": (spoil_width, "of width 12, others here of width 4: .* different models"),
    "uid": (spoil_uid, "no column uid of 32 hex digits a row"),
    "no npz": (lambda folder, parts: (folder / f"{parts[1][0]}.npz").unlink(), "npz is missing"),
    "no parquet": (
        lambda folder, parts: (folder / f"{parts[1][0]}.parquet").unlink(),
        "parquet is missing beside",
    ),
    "no array": (
        lambda folder, parts: np.savez(folder / f"{parts[1][0]}.npz", b32_img=parts[1][1]),
        "has no b32_txt: it holds b32_img",
    ),
    "no zip": (
        lambda folder, parts: (folder / f"{parts[1][0]}.npz").write_bytes(b"x" * 99),
        "is no .npz of numbers",
    ),
    "cut zip": (
        lambda folder, parts: cut(folder / f"{parts[1][0]}.npz"),
        "is no .npz of numbers",
    ),
    "no table": (
        lambda folder, parts: (folder / f"{parts[1][0]}.parquet").write_bytes(b"x"),
        "is no Parquet",
    ),
}


def cut(path):
    path.write_bytes(path.read_bytes()[:-50])


@pytest.mark.parametrize("spoilt", SPOILT)
def test_files_that_do_not_fit_together_are_refused_by_name(spoilt, parts, tmp_path):
    spoil, message = SPOILT[spoilt]
    datacomp(tmp_path, parts)
    spoil(tmp_path, parts)
    with pytest.raises(UserError, match=message) as refused:
        open_datacomp(tmp_path, "b32").uids()
    assert parts[1][0] in str(refused.value)


def test_a_compressed_array_that_breaks_off_is_refused(parts, tmp_path):
    datacomp(tmp_path, parts, compressed=True)
    embeddings = open_datacomp(tmp_path, "b32")
    raw = bytearray((tmp_path / f"{parts[0][0]}.npz").read_bytes())
    at = raw.index(b"b32_img.npy") + 60
    raw[at : at + 8] = b"\xff" * 8
    (tmp_path / f"{parts[0][0]}.npz").write_bytes(raw)
    with pytest.raises(UserError, match=r"b32_img\.npy cannot be read"):
        embeddings.read("image", 0, 3)


def test_another_model_or_an_empty_folder_is_refused(parts, tmp_path):
    with pytest.raises(UserError, match="b32 and of l14, not of 'h14'"):
        open_datacomp(datacomp(tmp_path / "a", parts), "h14")
    (tmp_path / "b").mkdir()
    with pytest.raises(UserError, match="not a single row"):
        open_datacomp(tmp_path / "b", "b32")
