from pathlib import Path

import numpy as np
import pytest
import torch

from selffilter.errors import UserError
from selffilter.scoring.embeddings.clip_retrieval import open_clip_retrieval
from selffilter.scoring.embeddings.datacomp import open_datacomp
from selffilter.scoring.embeddings.find import open_embeddings
from selffilter.scoring.embeddings.folder import (
    EmbeddingWriter,
    convert,
    embeddings_bytes,
    open_folder,
)
from selffilter.scoring.embeddings.usable import Unusable, unusable_rows
from tests.scoring.embeddings.written import clip_retrieval, datacomp

UIDS = np.arange(12, dtype=np.uint64).reshape(6, 2)


def writer(folder, **changes):
    settings = {"width": 8, "shards": 2, "made_by": {"model": "a"}} | changes
    return EmbeddingWriter(folder, **settings)


def written(folder, image, text):
    """Rows 0 to 3 and rows 10 and 11 of a pool."""
    writing = writer(folder)
    writing.write(1, np.array([10, 11]), UIDS[4:], [(image[4:], text[4:])])
    halves = [(image[:3], text[:3]), (image[3:4], text[3:4])]
    writing.write(0, np.arange(4), UIDS[:4], halves)
    return folder


def test_what_was_written_is_read_to_float16_and_unit_norm(tmp_path, make_features):
    image, text = make_features(6, 8, 0), make_features(6, 8, 1)
    embeddings = open_folder(written(tmp_path, image, text))
    assert embeddings.rows == 6
    assert embeddings.description == {"format": "selffilter", "made_by": {"model": "a"}}
    np.testing.assert_array_equal(embeddings.uids(), UIDS)
    assert embeddings.pool_rows().tolist() == [0, 1, 2, 3, 10, 11]
    for side, features in (("image", image), ("text", text)):
        read = embeddings.read(side, 0, 6)
        assert read.dtype == torch.float32
        torch.testing.assert_close(read, features, rtol=0, atol=5e-4)
        torch.testing.assert_close(read.norm(dim=-1), torch.ones(6), rtol=0, atol=2e-7)


def test_what_is_not_finished_is_not_opened(tmp_path, make_features):
    image, text = make_features(6, 8, 0), make_features(6, 8, 1)
    writing = writer(tmp_path)
    writing.write(1, np.array([10, 11]), UIDS[4:], [(image[4:], text[4:])])
    assert (writing.has(0), writing.has(1)) == (False, True)
    with pytest.raises(UserError, match=r"1 of 2 shards .the first one missing is 00000"):
        open_folder(tmp_path)


def test_the_table_comes_last_so_a_shard_is_there_whole(tmp_path, make_features, monkeypatch):
    image, text = make_features(2, 8, 0), make_features(2, 8, 1)
    replaced = []
    replace = Path.replace
    monkeypatch.setattr(
        Path, "replace", lambda self, target: (replaced.append(target.name), replace(self, target))
    )
    writer(tmp_path).write(0, np.arange(2), UIDS[:2], [(image, text)])
    assert replaced == ["embeddings.json", "00000.image.npy", "00000.text.npy", "00000.parquet"]


@pytest.mark.parametrize(
    "changes", [{"width": 9}, {"shards": 3}, {"made_by": {"model": "b"}}, {"made_by": {}}]
)
def test_embeddings_of_different_origin_are_never_mixed(changes, tmp_path):
    writer(tmp_path)
    writer(tmp_path)
    with pytest.raises(UserError, match=f"another origin .{next(iter(changes))} differ"):
        writer(tmp_path, **changes)


def test_features_that_do_not_fit_their_rows_are_a_mistake(tmp_path, make_features):
    image = make_features(2, 8, 0)
    with pytest.raises(ValueError, match="2 image embeddings of 3 rows"):
        writer(tmp_path).write(0, np.arange(3), UIDS[:3], [(image, image)])
    with pytest.raises(ValueError):
        writer(tmp_path).write(0, np.arange(2), UIDS[:2], [(image[:, :7], image)])
    assert not writer(tmp_path).has(0)


def test_the_estimate_is_near_what_they_take(tmp_path, store, make_features):
    image = make_features(5000, 32, 0)
    uids = np.random.default_rng(0).integers(0, 2**64, (5000, 2), dtype=np.uint64)
    folder = store(image, image, [2500, 2500], uids).folder
    taken = sum(path.stat().st_size for path in folder.iterdir())
    assert 0.9 * taken < embeddings_bytes(5000, 2, 32) < 1.1 * taken


def test_rows_that_cannot_be_used_are_known_by_reason_and_read_as_nan(tmp_path, make_features):
    image, text = make_features(6, 8, 0), make_features(6, 8, 1)
    image[0] = torch.nan
    image[1, 3] = torch.inf
    image[2] = 0
    text[3] = torch.nan
    text[5] = 0
    text[0] = 0
    embeddings = open_folder(written(tmp_path, image, text))
    U = Unusable
    expected = [
        U.image_not_finite, U.image_not_finite, U.image_zero, U.text_not_finite, 0, U.text_zero
    ]  # fmt: skip
    done = []
    for rows_at_once in (1, 4, 100):
        found = unusable_rows(embeddings, rows_at_once=rows_at_once, progress=done.append)
        assert found.tolist() == expected
    assert sum(done) == 18
    assert unusable_rows(embeddings, ["image"]).tolist() == [*expected[:3], 0, 0, 0]
    for side, bad in (("image", [0, 1, 2]), ("text", [0, 3, 5])):
        nan = embeddings.read(side, 0, 6).isnan()
        assert nan.all(dim=1).nonzero()[:, 0].tolist() == bad
        assert (nan.any(dim=1) == nan.all(dim=1)).all()


@pytest.mark.parametrize("compressed", [False, True])
def test_other_formats_are_copied_into_ours_unchanged(compressed, tmp_path, make_features):
    parts = [
        (f"{n:08}", make_features(5, 4, n).numpy(), make_features(5, 4, 9 + n).numpy(), range(5))
        for n in range(3)
    ]
    theirs = open_datacomp(datacomp(tmp_path / "theirs", parts, compressed), "b32")
    done = []
    ours = convert(theirs, tmp_path / "ours", done.append)
    assert sum(done) == 15
    np.testing.assert_array_equal(ours.uids(), theirs.uids())
    for side in ("image", "text"):
        torch.testing.assert_close(
            ours.read(side, 0, 15), theirs.read(side, 0, 15), rtol=0, atol=5e-4
        )
    assert ours.description["made_by"] == {"format": "datacomp", "model": "b32"}
    convert(theirs, tmp_path / "ours")  # what is there stays
    with pytest.raises(UserError, match="another origin"):
        convert(open_datacomp(tmp_path / "theirs", "l14"), tmp_path / "ours")


def test_which_kind_a_folder_is_shows(tmp_path, make_features):
    image, text = make_features(6, 8, 0), make_features(6, 8, 1)
    written(tmp_path / "ours", image, text)
    clip_retrieval(tmp_path / "retrieval", [(image.numpy(), None, {})])
    datacomp(tmp_path / "datacomp", [("0", image.numpy(), text.numpy(), range(6))])
    found = {name: open_embeddings(tmp_path / name) for name in ("ours", "retrieval", "datacomp")}
    assert isinstance(found["ours"].pool_rows(), np.ndarray)
    assert found["retrieval"].description == open_clip_retrieval(tmp_path / "retrieval").description
    assert found["datacomp"].width == 16  # L/14 unless told
    assert open_embeddings(tmp_path / "datacomp", "b32").width == 8
    with pytest.raises(UserError, match="no folder of embeddings"):
        open_embeddings(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"neither embeddings\.json .* nor img_emb/ .* nor"):
        open_embeddings(tmp_path / "empty")
    (tmp_path / "ours" / "embeddings.json").write_text("[]")
    with pytest.raises(UserError, match="does not say what lies beside it"):
        open_embeddings(tmp_path / "ours")
