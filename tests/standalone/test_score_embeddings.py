"""`selffilter score` on ready embeddings: what goes in, what is refused, what is recorded."""

import io
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from selffilter.clip.model import export, find_recipe
from selffilter.scoring.embeddings.usable import Unusable
from selffilter.standalone import ready_facts
from selffilter.store import read_json
from selffilter.tables import scores_schema

SIGNALS = ("--signal", "neg_clip_loss", "--signal", "variance_alignment_cross_traindata")


def files_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def test_the_tables_are_those_of_a_run_with_every_row_and_the_reason(call, metadata, tmp_path):
    assert call("score", "metadata", "scores", "--signal", "cosine")[0] == 0
    tables = [pq.read_table(path) for path in sorted((tmp_path / "scores").glob("*.parquet"))]
    assert [table.num_rows for table in tables] == [130, 1, 169, 100]
    assert all(table.schema == scores_schema(["cosine"], facts=()) for table in tables)
    whole = pa.concat_tables(tables)
    assert whole["row"].to_pylist() == list(range(400))
    assert [int.from_bytes(uid) for uid in whole["uid"].to_pylist()] == metadata.numbers.tolist()
    expected = (metadata.image * metadata.text).sum(1)
    np.testing.assert_allclose(whole["cosine"].to_numpy(), expected, rtol=0, atol=5e-7)
    failure = whole["failure"].to_numpy()
    reasons = [Unusable.image_not_finite, Unusable.image_zero, Unusable.text_not_finite]
    assert failure[[7, 133, 200]].tolist() == reasons and (failure != 0).sum() == 3


def test_bank_and_moments_are_of_the_whole_pool(call, metadata, column_of, tmp_path):
    words = ("score", "metadata", "scores", *SIGNALS, "--bank-size", 1000, "--temperature", 0.05)
    assert call(*words)[0] == 0
    image, text = metadata.image[metadata.usable], metadata.text[metadata.usable]
    own = (image * text).sum(1)
    logits = image @ text.T / 0.05
    log_mean = np.logaddexp.reduce(logits, 1) + np.logaddexp.reduce(logits, 0)
    expected = own - 0.05 * (0.5 * log_mean - np.log(len(image)))
    found = column_of(tmp_path / "scores", "neg_clip_loss")[metadata.usable]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
    cross = np.einsum("nd,de,ne->n", image, image.T @ text / len(image), text)
    found = column_of(tmp_path / "scores", SIGNALS[3])[metadata.usable]
    np.testing.assert_allclose(found, cross, rtol=1e-5)


def test_parts_are_the_whole_byte_for_byte_and_what_is_there_stays(call, metadata, tmp_path):
    assert call("score", "metadata", "whole", *SIGNALS)[0] == 0
    for part in ("2/2", "1/3", "3/3", "1/1"):
        assert call("score", "metadata", "parts", *SIGNALS, "--part", part)[0] == 0
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")
    for name in ("facts/bank.safetensors", "facts/moments.safetensors", "facts/usable.npy"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_stopped_while_it_prepares_it_goes_on(call, metadata, tmp_path, monkeypatch):
    assert call("score", "metadata", "whole", *SIGNALS)[0] == 0
    make = ready_facts.counting

    def stopping(bar, stop):
        stop.ask()
        return make(bar, stop)

    monkeypatch.setattr(ready_facts, "counting", stopping)
    code, _, error = call("score", "metadata", "scores", *SIGNALS)
    assert code == 75 and "The same command goes on" in error
    assert not files_of(tmp_path / "scores")
    monkeypatch.setattr(ready_facts, "counting", make)
    assert call("score", "metadata", "scores", *SIGNALS)[0] == 0
    assert files_of(tmp_path / "scores") == files_of(tmp_path / "whole")


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (("--temperature", 0.02), "temperature is 0.01 there and 0.02 here"),
        (("--datacomp-model", "b32"), 'embeddings.model is "l14" there and "b32" here'),
        (("--column", "clip_l14_similarity_score"), "signals is"),
    ],
)
def test_another_scorer_is_refused(other, named, call, metadata):
    assert call("score", "metadata", "scores", *SIGNALS)[0] == 0
    code, _, error = call("score", "metadata", "scores", *SIGNALS, *other)
    assert code == 2 and "scores of another scorer" in error and named in error


def test_embeddings_that_changed_are_refused(call, metadata, lay_out_metadata, tmp_path):
    assert call("score", "metadata", "scores", *SIGNALS, "--part", "1/2")[0] == 0
    metadata.folder.rename(tmp_path / "before")
    image = metadata.image.astype(np.float16)
    lay_out_metadata(metadata.folder, image, image, metadata.numbers.tolist())
    code, _, error = call("score", "metadata", "scores", *SIGNALS)
    assert code == 2 and "scores of another" in error and "fingerprint" in error


def test_the_published_form_is_of_the_whole_pool(call, metadata, column_of, tmp_path):
    words = ("--signal", "neg_clip_loss_permutation", "--permutation-batch", 50, "--draws", 2)
    code, _, error = call("score", "metadata", "scores", *words, "--part", "1/2")
    assert code == 2 and "of the whole pool at once" in error
    assert call("score", "metadata", "scores", *words)[0] == 0
    record = read_json(tmp_path / "scores" / "scores.json")["scorer"]
    assert record["permutation"] == {"batch_size": 50, "draws": 2, "seed": 0}
    assert record["temperature"] == 0.01
    found = column_of(tmp_path / "scores", words[1])
    assert np.isnan(found).tolist() == (~metadata.usable).tolist()


def test_a_reference_is_embeddings_of_the_same_rows(call, metadata, lay_out_metadata, tmp_path):
    swapped = (metadata.text.astype(np.float16), metadata.image.astype(np.float16))
    lay_out_metadata(tmp_path / "other", *swapped, metadata.numbers.tolist())
    words = ("--signal", "learnability", "--bank-size", 50, "--reference")
    assert call("score", "metadata", "scores", *words, "metadata")[0] == 0
    table = pq.read_table(tmp_path / "scores" / "00000.parquet")
    assert np.nanmax(np.abs(table["learnability"].to_numpy())) == 0  # it learns nothing of itself
    lay_out_metadata(tmp_path / "shuffled", *swapped, metadata.numbers[::-1].tolist())
    code, _, error = call("score", "metadata", "x", *words, "shuffled")
    assert code == 2 and "not the same rows in the same order" in error
    assert call("score", "metadata", "y", *words, "other")[0] == 0


def test_clip_retrievals_folders_are_read_too(call, tmp_path, column_of, metadata):
    folder = tmp_path / "retrieval"
    for number in range(2):
        for kind, array in (("img", metadata.image), ("text", metadata.text)):
            (folder / f"{kind}_emb").mkdir(parents=True, exist_ok=True)
            part = array[200 * number : 200 * (number + 1)].astype(np.float16)
            np.save(folder / f"{kind}_emb" / f"{kind}_emb_{number}.npy", part)
        (folder / "metadata").mkdir(exist_ok=True)
        table = pa.table({"stars": np.arange(200)})
        pq.write_table(table, folder / "metadata" / f"metadata_{number}.parquet")
    words = ("--signal", "norm_sim_2", "--target", "metadata", "--column", "stars")
    assert call("score", "retrieval", "scores", *words)[0] == 0
    found = column_of(tmp_path / "scores", "norm_sim_2")
    image, target = metadata.image[:400], metadata.image[metadata.usable]
    expected = np.where(metadata.usable, np.linalg.norm(image @ target.T, axis=1), np.nan)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    stars = column_of(tmp_path / "scores", "stars")
    assert stars[199] == 199 and stars[200] != stars[200]  # that row is unusable
    assert call("select", "scores", "out.npy", "--top", "stars:4")[0] == 0
    for path in folder.glob("text_emb/*"):
        path.unlink()
    (folder / "text_emb").rmdir()
    code, _, error = call("score", "retrieval", "images", "--signal", "cosine")
    assert code == 2 and "cosine looks at captions: retrieval has no text embeddings" in error
    assert call("score", "retrieval", "images", *words)[0] == 0
    found = column_of(tmp_path / "images", "norm_sim_2")
    assert np.isfinite(found).sum() == 398 and np.isfinite(found[200])


def test_a_target_of_pictures_is_encoded_by_the_model_that_is_named(
    call, metadata, tmp_path, make_tar, picture, column_of
):
    text = {"context_length": 12, "width": 16, "heads": 2, "layers": 1}
    vision = {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8}
    for name, width in (("fits", 24), ("narrow", 16)):
        config = tmp_path / f"test-{name}.json"
        config.write_text(
            re.sub("'", '"', str({"embed_dim": width, "vision_cfg": vision, "text_cfg": text}))
        )
        torch.manual_seed(0)
        recipe = find_recipe(str(config))
        export(tmp_path / name, recipe, recipe.build().state_dict())
    samples = [(f"s{i}", {"png": picture(i), "txt": b"words"}) for i in range(4)]
    make_tar(tmp_path / "target" / "train" / "0.tar", samples)
    (tmp_path / "target" / "train" / "nshards.txt").write_text("1")
    (tmp_path / "target" / "dataset_type.txt").write_text("retrieval")
    words = ("score", "metadata", "scores", "--signal", "norm_sim_2", "--target", "target")
    cpu = ("--workers", 0)
    code, _, error = call(*words)
    assert code == 2 and "say with --model which model the embeddings are of" in error
    code, _, error = call(*words, "--model", "narrow", *cpu)
    assert code == 2 and "of width 16, and metadata of width 24: they are of different" in error
    assert call(*words, "--model", "fits", *cpu)[0] == 0
    assert np.isfinite(column_of(tmp_path / "scores", "norm_sim_2")).sum() == 397


def npz(**arrays):
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def test_bad_inputs_are_one_sentence(call, metadata, tmp_path):
    words = ("score", "metadata", "scores", "--signal", "norm_sim_2", "--target")
    np.save(tmp_path / "wide.npy", np.ones((3, 25), np.float32))
    np.save(tmp_path / "flat.npy", np.ones(24, np.float32))
    for target, said in (
        ("wide.npy", "width 25, and metadata of width 24: they are of different models"),
        ("flat.npy", "has the shape (24,), not (rows, width)"),
        ("missing.npy", "missing.npy is missing"),
    ):
        code, _, error = call(*words, target)
        assert code == 2 and said in error and error.count("\n") == 1
    cosine = ("score", "metadata", "scores", "--signal")
    for more, said in (
        (("flipped_cosine",), "looks at mirrored images"),
        (("norm_sim_inf",), "norm_sim_inf needs --target"),
        (("cosine", "--model", "ViT-B-32:openai"), "ready embeddings are scored without one"),
        (("cosine", "--embeddings"), "--embeddings is about a pool's shards"),
        (("cosine", "--column", "stars"), "has no column 'stars' of numbers"),
    ):
        code, _, error = call(*cosine, *more)
        assert code == 2 and said in error
    arrays = dict(np.load(metadata.folder / "00000002.npz"))
    short = {name: array[:-1] for name, array in arrays.items()}
    (metadata.folder / "00000002.npz").write_bytes(npz(**short))
    code, _, error = call(*cosine, "cosine")
    assert code == 2 and "168 rows" in error and "aligned row by row" in error
    (metadata.folder / "00000002.npz").unlink()
    code, _, error = call(*cosine, "cosine")
    assert code == 2 and "00000002.npz is missing" in error
