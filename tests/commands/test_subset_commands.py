"""`selffilter subset …`, as its user meets it."""

import json
from collections import Counter

import numpy as np
import pytest

from selffilter.pool import uids
from selffilter.pool.multiset import subset_of
from selffilter.pool.subset import read_subset_file, write_subset_file


@pytest.fixture
def call(call):
    """Return a call of the command in tmp_path: exit code, output, errors."""
    return lambda *words: call("subset", *words)


def write(path, counter):
    numbers = list(counter)
    texts = [f"{n:032x}" for n in numbers]
    weights = np.array([counter[n] for n in numbers], dtype=np.int64)
    write_subset_file(path, subset_of(uids.from_hex(texts), weights))


def read(path):
    subset = read_subset_file(path)
    numbers = [int(text, 16) for text in uids.to_hex(subset.uids_N2)]
    return Counter(dict(zip(numbers, subset.weights_N.tolist(), strict=True)))


A, B, C = Counter({1: 2, 2: 1, 3: 1}), Counter({1: 1, 3: 4, 5: 1}), Counter({3: 1, 9: 1})


@pytest.fixture
def files(tmp_path):
    write(tmp_path / "a.npy", A)
    write(tmp_path / "b.parquet", B)
    write(tmp_path / "c.txt", C)
    return ("a.npy", "b.parquet", "c.txt")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["intersect"], A & B & C),
        (["union"], A | B | C),
        (["union", "--sum"], A + B + C),
        (["minus"], A - B - C),
    ],
)
@pytest.mark.parametrize("out", ["out.npy", "out.parquet", "out.txt"])
def test_subsets_are_combined_from_any_format_to_any(call, files, tmp_path, words, expected, out):
    code, said, _ = call(*words, *files, out)
    assert code == 0 and read(tmp_path / out) == expected
    total, weights = (
        len(expected),
        " with their weights" if expected.total() > len(expected) else "",
    )
    assert said.startswith(f"{out}: {total:,} uids") and weights in said


def test_convert_keeps_weights(call, files, tmp_path):
    for source, out in (("a.npy", "x.parquet"), ("x.parquet", "x.txt"), ("x.txt", "x.npy")):
        assert call("convert", source, out)[0] == 0
    assert (tmp_path / "x.npy").read_bytes() == (tmp_path / "a.npy").read_bytes()


def test_compare_counts_what_two_have_in_common(call, files):
    code, said, _ = call("compare", *files, "--json")
    assert code == 0 and json.loads(said) == {
        "subsets": list(files),
        "uids": [3, 3, 2],
        "samples": [4, 6, 2],
        "overlap": [[4, 2, 1], [2, 6, 1], [1, 1, 2]],
        "jaccard": [[1, 2 / 8, 1 / 5], [2 / 8, 1, 1 / 7], [1 / 5, 1 / 7, 1]],
    }
    said = call("compare", *files)[1]
    assert "[0]  a.npy: 3 uids, 4 samples with their weights" in said
    assert "[2]  c.txt: 2 uids\n" in said
    assert " [1]  0.250  1.000  0.143" in said


def test_a_sample_has_the_size_asked_for_and_the_seed_decides_which(call, tmp_path):
    write(tmp_path / "all.npy", Counter(range(1000)))
    for name, *words in (
        ("a", "--count", 100),
        ("b", "--fraction", 0.1),
        ("c", "--fraction", 0.1, "--seed", 1),
    ):
        assert call("sample", "all.npy", f"{name}.npy", *words)[0] == 0
    drawn = {name: read(tmp_path / f"{name}.npy") for name in "abc"}
    assert [c.total() for c in drawn.values()] == [100, 100, 100]
    assert drawn["a"] == drawn["b"] != drawn["c"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["convert", "a.npy", "out.csv"], "out.csv: a subset file ends in .npy, .parquet or .txt"),
        (["convert", "gone.npy", "out.npy"], "there is no subset file gone.npy"),
        (["convert", "runs/gone", "out.npy"], "there is no subset file runs/gone"),
        (["convert", "a.npy", "out.npy", "--round", "1"], "--round 1: a.npy is no run directory"),
        (["convert", ".", "out.npy"], ". is no run directory"),
        (["union", "a.npy", "out.npy"], "give two subsets at least, and OUT behind them"),
        (["sample", "a.npy", "out.npy"], "give either --count or --fraction"),
        (["sample", "a.npy", "out.npy", "--count", "5"], "--count 5: a.npy holds 4 samples"),
        (["sample", "a.npy", "out.npy", "--fraction", "-1"], "--fraction -1.0: a.npy holds 4"),
        (["sample", "a.npy", "out.npy", "--fraction", "nan"], "--fraction nan is no share"),
    ],
)
def test_a_mistake_ends_in_one_sentence_and_code_2(call, files, tmp_path, words, says):
    code, _, err = call(*words)
    assert code == 2 and says in err and "Traceback" not in err
    assert not list(tmp_path.glob("out.*"))
