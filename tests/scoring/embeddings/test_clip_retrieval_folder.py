import numpy as np
import pytest
import torch

from selffilter.errors import UserError
from selffilter.scoring.embeddings.clip_retrieval import open_clip_retrieval
from tests.scoring.embeddings.written import clip_retrieval, hex_of

RANDOM = np.random.default_rng(0)


def array(rows, width=4):
    return RANDOM.standard_normal((rows, width)).astype(np.float16)


def test_parts_go_by_their_number_and_uids_are_those_of_the_metadata(tmp_path):
    parts = [(array(2), array(2), {"uid": [hex_of(2 * n), hex_of(2 * n + 1)]}) for n in range(11)]
    embeddings = open_clip_retrieval(clip_retrieval(tmp_path, parts))
    assert embeddings.uids()[:, 1].tolist() == list(range(22))
    for side, place in (("image", 0), ("text", 1)):
        stored = torch.from_numpy(np.concatenate([part[place] for part in parts])).float()
        expected = torch.nn.functional.normalize(stored, dim=-1)
        torch.testing.assert_close(embeddings.read(side, 0, 22), expected, rtol=0, atol=1e-6)


def test_numbers_may_be_filled_up_with_noughts(tmp_path):
    parts = [(array(1), array(1), {"similarity": [float(n)]}) for n in range(3)]
    embeddings = open_clip_retrieval(clip_retrieval(tmp_path, parts, digits=4))
    assert embeddings.column("similarity").tolist() == [0, 1, 2]


def test_rows_without_a_uid_get_one_that_is_theirs_alone(tmp_path):
    parts = [(array(2), array(2), {}), (array(2), array(2), {"uid": [hex_of(7), "no uid"]})]
    folder = clip_retrieval(tmp_path, parts)
    uids = open_clip_retrieval(folder).uids()
    assert uids.shape == (4, 2)
    assert len({tuple(uid) for uid in uids.tolist()}) == 4
    assert uids[2].tolist() == [0, 7]
    np.testing.assert_array_equal(open_clip_retrieval(folder).uids(), uids)


def test_texts_may_be_absent(tmp_path):
    embeddings = open_clip_retrieval(clip_retrieval(tmp_path, [(array(2), None, {})]))
    assert embeddings.sides == ("image",)
    for read in (
        lambda: embeddings.read("text", 0, 1),
        lambda: embeddings.gather("text", np.array([0])),
    ):
        with pytest.raises(UserError, match="has no text embeddings, which this needs"):
            read()


def test_files_that_do_not_fit_together_are_refused_by_name(tmp_path):
    def folder(name):
        return clip_retrieval(tmp_path / name, [(array(2), array(2), {}), (array(3), array(3), {})])

    one = folder("one")
    (one / "text_emb" / "text_emb_1.npy").unlink()
    with pytest.raises(UserError, match=r"text_emb_1\.npy is missing"):
        open_clip_retrieval(one)
    two = folder("two")
    (two / "metadata" / "metadata_1.parquet").unlink()
    with pytest.raises(UserError, match=r"metadata_1\.parquet is missing"):
        open_clip_retrieval(two)
    three = folder("three")
    np.save(three / "img_emb" / "img_emb_1.npy", array(4))
    with pytest.raises(UserError, match=r"img_emb_1\.npy has 4 rows, but .* has 3"):
        open_clip_retrieval(three)
    four = folder("four")
    np.save(four / "text_emb" / "text_emb_1.npy", array(3, width=5))
    with pytest.raises(UserError, match=r"text_emb_1\.npy has embeddings of width 5"):
        open_clip_retrieval(four)
