"""`selffilter select` and `eliminate`, as their user meets them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selffilter.pool.subset import read_subset_file
from selffilter.selecting.combine import rank_ensemble
from selffilter.standalone import eliminate
from selffilter.store import read_json


@pytest.fixture
def scored(call, metadata):
    """Scores by both of DataComp's models, and of a column, in folders of their own."""
    for name, model in (("l14", "l14"), ("b32", "b32")):
        words = ("--signal", "cosine", "--datacomp-model", model)
        assert call("score", "metadata", name, *words)[0] == 0
    assert call("score", "metadata", "given", "--column", "clip_l14_similarity_score")[0] == 0
    return metadata


def test_the_order_of_the_rules_is_that_of_the_words(call, scored, tmp_path, numbers_of):
    given = "clip_l14_similarity_score"
    keep, top = ("--keep", "l14:cosine:0.5"), (f"--top=b32:cosine:{150}",)
    for name, rules in (("a", (*keep, *top)), ("b", (*top, "--above", f"{given}:-1", *keep))):
        code, said, error = call("select", "l14", "b32", "given", f"{name}.npy", *rules)
        if name == "b":
            # 150 are left when half of 400 are asked for.
            assert code == 2 and "0.5 of 400 rows are 200, but only 150 rows" in error
            assert not (tmp_path / "b.npy").exists()
        else:
            assert code == 0 and len(numbers_of(tmp_path / "a.npy")) == 150
            assert said.index("l14:cosine:0.5") < said.index("b32:cosine:150")


def test_every_format_holds_the_same_and_the_record_lies_beside(call, scored, tmp_path):
    found = []
    for name in ("out.npy", "out.parquet", "out.txt"):
        code, said, _ = call("select", "l14", name, "--keep", "cosine:0.3", "--of", "usable")
        assert code == 0 and "fractions are of the usable rows: 397" in said
        found.append(read_subset_file(tmp_path / name).uids_N2.tolist())
        record = read_json(tmp_path / f"{name}.json")
        assert record["fractions_of"] == "usable" and record["base"] == 397
        account = record["account"]
        assert (
            account["indexed"]
            == 400
            == (
                account["kept"]
                + sum(account["cut"])
                + sum(account["unusable"].values())
                + account["not_scored"]
            )
        )
    assert found[0] == found[1] == found[2] and len(found[0]) == 119


def test_an_ensemble_is_of_ranks(call, scored, tmp_path, column_of, numbers_of):
    words = ("--ensemble", "min:l14:cosine,b32:cosine=both", "--top", "both:50")
    assert call("select", "l14", "b32", "out.npy", *words)[0] == 0
    columns = [column_of(tmp_path / name, "cosine") for name in ("l14", "b32")]
    columns = [np.where(scored.usable, column, np.nan) for column in columns]
    both = rank_ensemble(columns, "min")
    order = np.lexsort((scored.numbers, -np.nan_to_num(both)))
    assert numbers_of(tmp_path / "out.npy") == set(scored.numbers[order[:50]].tolist())
    assert read_json(tmp_path / "out.npy.json")["ensembles"][0]["how"] == "min"


def test_mistakes_are_one_sentence(call, scored, tmp_path, lay_out_metadata):
    keep = ("--keep", "cosine:0.1")
    image = scored.image.astype(np.float16)
    lay_out_metadata(tmp_path / "others", image, image, range(400))
    assert call("score", "others", "elsewhere", "--signal", "cosine")[0] == 0
    (tmp_path / "sub").mkdir()
    assert call("score", "metadata", "sub/l14", "--signal", "cosine")[0] == 0
    for words, said in (
        (("l14", "out.npy"), "say what to select by"),
        (("l14", "out.csv", *keep), "ends in .npy, .parquet or .txt"),
        (("out.npy", *keep), "name a folder of scores"),
        (("metadata", "out.npy", *keep), "metadata is no folder of scores"),
        (("l14", "out.npy", "--keep", "cosin:0.1"), "there is no column 'cosin'"),
        (("l14", "b32", "out.npy", *keep), "there are b32:cosine, l14:cosine"),
        (("l14", "elsewhere", "out.npy", *keep), "have scores of different rows: fingerprint"),
        (("l14", "sub/l14", "out.npy", *keep), "two of these folders are called l14"),
        (("l14", "out.npy", *keep, "--of", "all"), "--of 'all' is not one of"),
        (("l14", "out.npy", "--ensemble", "max:a,b=c", *keep), "HOW is mean or min"),
    ):
        code, _, error = call("select", *words)
        assert code == 2 and said in error and error.count("\n") == 1, (words, error)
    assert not list(tmp_path.glob("out.*"))


def test_tables_whose_rows_have_other_uids_are_not_joined(call, scored, tmp_path):
    """The record says the same source: it is the rows that are held against each other."""
    path = tmp_path / "given" / "00002.parquet"
    table = pq.read_table(path)
    wrong = pa.array([bytes(16), *table["uid"].to_pylist()[1:]], pa.binary(16))
    pq.write_table(table.set_column(1, "uid", wrong), path)
    code, _, error = call("select", "l14", "given", "out.npy", "--keep", "cosine:0.1")
    assert code == 2 and "given and another of these folders" in error
    assert "row 131 has another uid" in error
    path.unlink()
    code, _, error = call("select", "l14", "given", "out.npy", "--keep", "cosine:0.1")
    assert code == 2 and "given is not complete: 1 of 4 shards are not scored" in error
    path.write_text("no table")
    code, _, error = call("select", "l14", "given", "out.npy", "--keep", "cosine:0.1")
    assert code == 2 and "00002.parquet is not a table of scores" in error


def test_a_column_without_a_score_is_refused(call, metadata, lay_out_metadata, tmp_path):
    nothing = np.full((400, 24), np.nan, np.float16)
    lay_out_metadata(tmp_path / "nan", nothing, nothing, range(400))
    code, _, error = call("score", "nan", "a", "--signal", "cosine")
    assert code == 2 and "nan has no usable row" in error
    name = "clip_l14_similarity_score"
    assert call("score", "nan", "b", "--column", name)[0] == 0
    code, _, error = call("select", "b", "out.npy", "--keep", f"{name}:0.1")
    assert code == 2 and f"{name} has not a single score" in error


def test_elimination_refuses_what_cannot_be(call, scored, tmp_path, lay_out_metadata):
    image = scored.image.astype(np.float16)
    lay_out_metadata(tmp_path / "others", image, image, range(400))
    good = ("--from", 0.45, "--to", 0.3)
    for words, said in (
        (("metadata", "l14", "out", "--from", 0.3, "--to", 0.45), "the second is not the larger"),
        (("metadata", "l14", "out", *good, "--steps", 0), "--steps 0 is below 1"),
        (("metadata", "l14", "out", *good, "--kind", "norm"), "--kind 'norm' is not one of"),
        (("metadata", "l14", "out", *good, "--by", "x"), "there is no column 'x'"),
        (("metadata", "l14", "out2", "--from", 1, "--to", 0.3), "only 397 rows that have a cosine"),
        (("others", "l14", "out", *good), "are not of the same rows"),
        (("metadata", "l14", "out3", "--from", 0.4, "--to", 0.001), "of 400 rows is none"),
    ):
        code, _, error = call("eliminate", *words)
        assert code == 2 and said in error, (words, error)
        assert not list(tmp_path.glob("out*/*.parquet"))


def test_elimination_is_the_same_from_the_disk_and_after_a_stop(
    call, scored, tmp_path, monkeypatch
):
    words = ("eliminate", "metadata", "l14")
    good = ("--from", 0.45, "--to", 0.3, "--steps", 5)
    assert call(*words, "memory", *good)[0] == 0
    make = eliminate.counting

    def stopping(bar, stop):
        stop.ask()
        return make(bar, stop)

    monkeypatch.setattr(eliminate, "counting", stopping)
    code, _, error = call(*words, "disk", *good, "--memory-gb", 1e-9)
    assert code == 75 and "begins anew" in error
    monkeypatch.setattr(eliminate, "counting", make)
    assert call(*words, "disk", *good, "--memory-gb", 1e-9)[0] == 0
    for path in sorted((tmp_path / "memory").glob("*.parquet")):
        assert path.read_bytes() == (tmp_path / "disk" / path.name).read_bytes()
    code, _, error = call(*words, "disk", *good[:-1], 6)
    assert code == 2 and "elimination.steps is 5 there and 6 here" in error
    for path in scored.folder.glob("*.npz"):
        np.savez_compressed(path, **np.load(path))
    code, _, error = call(*words, "packed", *good, "--memory-gb", 1e-9)
    assert code == 2 and "--memory-gb is 1e-09" in error and "compressed" in error
