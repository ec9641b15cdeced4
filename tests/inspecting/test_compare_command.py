"""`selffilter compare`, as its user meets it."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from selffilter.pool import uids
from selffilter.pool.multiset import subset_of
from selffilter.pool.subset import write_subset_file
from selffilter.store import RunStore


def write(path, weights):
    texts = [f"{number:032x}" for number in weights]
    counts = np.array(list(weights.values()), np.int64)
    write_subset_file(path, subset_of(uids.from_hex(texts), counts))


@pytest.fixture
def subsets(tmp_path):
    write(tmp_path / "x.npy", {1: 2, 2: 1, 9: 1})
    write(tmp_path / "y.parquet", {1: 1, 3: 1})
    write(tmp_path / "z.txt", {1: 1, 2: 1})
    return ["x.npy", "y.parquet", "z.txt"]


def test_two_runs_and_a_subset_leave_numbers_tables_and_pictures(loop, merit, call, tmp_path):
    subset = loop / "final" / "subset.npy"
    code, out, err = call("compare", loop, merit, subset, "--out", "beside")
    assert code == 0, err
    record = json.loads((tmp_path / "beside" / "compare.json").read_text())
    assert [side["kind"] for side in record["sides"]] == ["run", "run", "subset"]
    assert [(pair["a"], pair["b"]) for pair in record["pairs"]] == [("A", "B")]
    assert [row["round"] for row in record["pairs"][0]["rounds"]] == [0, 1, 2]
    assert record["kept"]["jaccard"][0][2] == 1  # the subset is what the run ended with
    assert record["kept"]["in_all"] <= min(record["kept"]["uids"])
    summary = RunStore(loop).summary(2, "select")
    assert record["sides"][0]["chosen_uids"] == summary["confident"]
    assert record["config"]["seed"] == [0, 1]
    assert record["compute"]["A"]["samples_seen"] == 18 * 16
    for word in ("What they keep", "A loop and B merit: confident rows", "Spearman", "seed"):
        assert word in out
    expected = {"overlap.png", "scores.png", "only_A_not_B.png", "only_B_not_A.png"}
    assert expected <= set(record["files"])
    assert "compare.html" in record["files"]
    for name in [name for name in record["files"] if name.endswith(".png")]:
        with Image.open(tmp_path / "beside" / name) as picture:
            assert min(picture.size) > 100, name
        assert f"wrote beside/{name}" in err


def test_the_sheets_show_what_only_one_keeps_and_the_bound_holds(loop, merit, call, tmp_path):
    assert call("compare", loop, merit, "--out", "few", "--samples", 2)[0] == 0
    with Image.open(tmp_path / "few" / "only_A_not_B.png") as picture:
        two = picture.size
    assert call("compare", loop, merit, "--out", "more", "--samples", 5)[0] == 0
    with Image.open(tmp_path / "more" / "only_A_not_B.png") as picture:
        assert picture.size[0] > two[0]
    assert call("compare", loop, merit, "--out", "none", "--samples", 0)[0] == 0
    assert not list((tmp_path / "none").glob("only*"))


def test_subsets_alone_are_compared_with_their_weights(subsets, call, tmp_path):
    code, out, err = call("compare", *subsets, "--out", "o")
    assert code == 0, err
    record = json.loads((tmp_path / "o" / "compare.json").read_text())
    assert record["kept"]["samples"] == [4, 2, 2]
    assert record["kept"]["overlap"] == [[4, 1, 2], [1, 2, 1], [2, 1, 2]]
    assert record["kept"]["jaccard"][0][2] == pytest.approx(2 / 4)
    assert (record["kept"]["in_all"], record["kept"]["in_any"]) == (1, 4)
    assert "A and C" in out
    assert record["files"] == ["overlap.png", "compare.html"]
    assert "subset files alone do not say where their pool is" in err


def test_without_a_folder_nothing_is_written(subsets, call, tmp_path):
    before = sorted(tmp_path.iterdir())
    code, out, _ = call("compare", *subsets, "--json")
    assert (code, json.loads(out)["kept"]["in_any"]) == (0, 4)
    assert sorted(tmp_path.iterdir()) == before


def test_without_matplotlib_the_rest_is_there_with_a_note(loop, merit, call, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("selffilter.comparing.figures", "selffilter.theory.plotting"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, err = call("compare", loop, merit, "--out", "o", "--samples", 0)
    assert code == 0, err
    assert "Spearman" in out
    assert "no plots: matplotlib is missing: pip install 'selffilter[experiments]'." in err
    assert json.loads((tmp_path / "o" / "compare.json").read_text())["files"] == ["compare.html"]


def test_an_earlier_round_can_be_compared(loop, merit, call):
    record = json.loads(call("compare", loop, merit, "--round", 0, "--json")[1])
    assert [side["round"] for side in record["sides"]] == [0, 0]
    assert record["sides"][0]["uids"] == RunStore(loop).summary(0, "select")["selected"]


def test_a_run_that_keeps_nothing_for_its_score_is_compared_by_all_it_keeps(loop, loop_copy, call):
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = RunStore(loop_copy).stage(2, "select")
    for path in [path for path in folder.glob("*.parquet") if path.stem.isdecimal()]:
        table = pq.read_table(path)
        share = pa.array(["diverse"] * len(table)).cast(table.schema.field("share").type)
        place = table.schema.get_field_index("share")
        pq.write_table(table.set_column(place, table.schema.field("share"), share), path)
    code, out, _ = call("compare", loop, loop_copy)
    assert (code, "confident rows, and scores" in out) == (0, False)
    record = json.loads(call("compare", loop, loop_copy, "--json")[1])
    assert record["sides"][1]["chosen_uids"] == record["sides"][1]["uids"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x.npy"], "compare takes 2 to 26 runs or subsets, not 1."),
        (["x.npy", "nowhere.npy"], "there is no subset file nowhere.npy"),
        (["x.npy", "."], "is no run directory: it has no config.yaml"),
        (["x.npy", "z.txt", "--round", "1"], "--round 1: x.npy is no run directory."),
        (["x.npy", "z.txt", "--out", "x.npy"], "--out x.npy: that is a file; name a folder."),
        (["x.npy", "z.txt", "--samples", "-1"], "--samples -1: a sheet shows no fewer than 0."),
    ],
)
def test_what_cannot_be_compared_is_said_in_a_sentence(words, said, subsets, call):
    code, _, err = call("compare", *words)
    assert code == 2
    assert said in err
