"""What `plan` and the select stage say about a pool: weights, and when materialising pays."""

import fsspec
import numpy as np
import pytest

from selffilter.config import load_config
from selffilter.outlook import print_plan
from selffilter.pool.index import Pool, build_index
from selffilter.pool.subset import write_subset


@pytest.fixture
def far(tmp_path, make_tar, picture):
    """Return a pool that lies on a server, and beside it on this disk."""
    bucket = "memory://advice/pool"
    files, _ = fsspec.core.url_to_fs(bucket)
    for shard in range(2):
        samples = [(f"{i:03d}", {"png": picture(i), "txt": b"a caption"}) for i in range(40)]
        tar = make_tar(tmp_path / "pool" / f"{shard}.tar", samples)
        files.pipe(f"/advice/pool/{shard}.tar", tar.read_bytes())
    yield bucket
    files.rm("/advice", recursive=True)


@pytest.mark.parametrize(
    ("words", "is_far", "pays"),
    [
        ([], True, True),
        ([], False, False),
        (["pool.cache_gb=1"], True, False),  # it fits into the cache
        (["pool.request_bytes=0"], True, False),
        (["rounds.samples_seen=32"], True, False),  # it is read once
    ],
)
def test_plan_says_when_materialising_pays_and_is_silent_otherwise(
    far, tmp_path, monkeypatch, capsys, words, is_far, pays
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    shards = far if is_far else str(tmp_path / "pool")
    pool = Pool(tmp_path / "i", build_index([shards], tmp_path / "i"))
    write_subset(tmp_path / "s.npy", pool.uids_of(np.arange(0, pool.rows, 4)))
    config = load_config(
        None,
        [
            f"pool.shards=[{shards}]",
            f"pool.index_dir={tmp_path / 'i'}",
            "pool.subset=s.npy",
            "pool.cache_gb=0",
            "select.keep_fraction=0",
            "select.diverse_fraction=1",
            "rounds.count=2",
            "rounds.samples_seen=2000",
            "train.global_batch_size=16",
            *words,
        ],
    )
    print_plan(config, ranks=1)
    said = capsys.readouterr().out
    assert ("materialising would pay" in said) == pays
    assert ("selffilter materialize s.npy OUT --shards" in said) == pays


def test_plan_says_how_long_a_pass_over_weighted_rows_is(
    make_tar, picture, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name, count in (("a", 20), ("b", 12)):
        samples = [(f"{i:03d}", {"png": picture(i), "txt": b"a caption"}) for i in range(count)]
        make_tar(tmp_path / name / "0.tar", samples)
    words = ["pool.shards=[a,b]", "select.probe_fraction=0", "train.global_batch_size=4"]
    words += ["rounds.samples_seen=400", "rounds.count=2", "select.keep_fraction=0.5"]
    print_plan(load_config(None, words), ranks=1)
    assert "pass    " not in capsys.readouterr().out
    print_plan(load_config(None, [*words, "pool.source_weights=[3,1]"]), ranks=1)
    assert "pass    72 samples over the base: a row counts up to 3 times" in capsys.readouterr().out
