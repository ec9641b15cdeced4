"""`selffilter materialize`, as its user meets it: from a run, and from a subset file."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

from selffilter.config import SelectConfig, load_config, to_yaml
from selffilter.pool.index import Pool, build_index
from selffilter.pool.subset import read_subset_file, write_subset
from selffilter.selecting.choice import Candidates, choose
from selffilter.selecting.on_disk import read_selection, write_selection
from selffilter.store import RunStore, write_json, write_text

ROWS = 30


@pytest.fixture
def pool(tmp_path, make_tar, picture):
    for shard in range(3):
        samples = [
            (f"{row:04d}", {"png": picture(row, size=(40, 30)), "txt": f"caption {row}".encode()})
            for row in range(shard * 10, shard * 10 + 10)
        ]
        make_tar(tmp_path / "pool" / f"{shard}.tar", samples)
    index_dir = tmp_path / "index"
    return Pool(index_dir, build_index([str(tmp_path / "pool")], index_dir))


@pytest.fixture
def run_dir(tmp_path, pool):
    """A run that has selected twice: 6 rows, then 12."""
    config = load_config(None, [f"pool.shards=[{tmp_path}/pool]", f"runs_dir={tmp_path}/runs"])
    store = RunStore(config.run_dir)
    write_text(store.config_path, to_yaml(config))
    pinned = {"index_dir": str(tmp_path / "index"), "version": pool.version}
    write_json(store.root / "environment.json", {"pool": pinned})
    scores = np.random.default_rng(0).random(ROWS).astype(np.float32)
    for round_, keep in enumerate((0.2, 0.4)):
        settings = SelectConfig(keep_fraction=[keep], diverse_fraction=[0])
        candidates = Candidates(scores, np.ones(ROWS, bool), pool.uids_of)
        choice = choose(candidates, settings, seed=0, round_=round_)
        write_selection(store.stage(round_, "select"), choice, pool, round_)
        store.mark_done(round_, "select", {})
    return store.root


def captions_in(folder):
    tables = [pq.read_table(path) for path in sorted(folder.glob("*.parquet"))]
    return sorted(caption for table in tables for caption in table["caption"].to_pylist())


@pytest.mark.parametrize(("words", "round_"), [([], 1), (["--round", 0], 0)])
def test_a_run_gives_its_selection(call, run_dir, tmp_path, words, round_):
    code, said, _ = call("materialize", run_dir, "out", "--workers", 1, *words)
    rows = read_selection(RunStore(run_dir).stage(round_, "select")).rows_N.tolist()
    assert code == 0 and captions_in(tmp_path / "out") == sorted(f"caption {r}" for r in rows)
    assert f"out: {len(rows)} samples" in said
    assert "selffilter run CONFIG pool.shards='[out]'" in said
    # What was written is the run's subset, also for the other commands.
    call("subset", "convert", run_dir, "run.npy", *words)
    assert (tmp_path / "run.npy").read_bytes() == (tmp_path / "out" / "subset.npy").read_bytes()


@pytest.mark.parametrize("name", ["s.npy", "s.parquet", "s.txt"])
def test_a_subset_file_and_shards_give_the_same(call, pool, tmp_path, name):
    rows = np.array([1, 7, 12, 29])
    uids_N2 = np.concatenate([pool.uids_of(rows), np.array([[1, 2]], np.uint64)])
    write_subset(tmp_path / "s.npy", uids_N2, np.array([1, 3, 1, 1, 1]))
    if name != "s.npy":
        call("subset", "convert", "s.npy", name)
    words = ("--shards", "pool", "--workers", 1, "--resize", 15, "--format", "webp")
    code, said, err = call("materialize", name, "out", *words)
    assert code == 0 and captions_in(tmp_path / "out") == sorted(f"caption {r}" for r in rows)
    assert f"{name}: 4 of its 5 uids are in the pool" in err
    assert "pool.subset=out/subset.npy" in said  # since a row has weight 3
    assert read_subset_file(tmp_path / "out" / "subset.npy").samples == 6
    widths = pq.read_table(tmp_path / "out" / "00000.parquet")["width"].to_pylist()
    assert widths == [20] * 4


def test_rows_that_the_index_knows_to_be_unusable_are_left_out(call, tmp_path, make_tar, picture):
    members = {"png": picture(), "txt": b"x", "json": b'{"uid": "%s"}' % (b"a" * 32)}
    make_tar(tmp_path / "pool" / "0.tar", [("a", members), ("b", members), ("c", {"txt": b"x"})])
    (tmp_path / "s.txt").write_text("a" * 32 + "\n")
    code, said, _ = call("materialize", "s.txt", "out", "--shards", "pool")
    assert code == 0 and "out: 1 samples in 1 shard," in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["RUN", "out", "--round", "7"], "round 7 has no selection; rounds 0, 1 have"),
        (["RUN", "out", "--shards", "pool"], "is a run, which knows its pool"),
        (["pool", "out"], "pool is no run directory"),
        (["s.npy", "out"], "say with --shards where the pool is"),
        (["s.npy", "out", "--shards", "pool"], "none of its uids is in the pool"),
        (["s.npy", "out", "--round", "0"], "--round 0: s.npy is no run directory"),
        (["gone.npy", "out", "--shards", "pool"], "there is no subset file gone.npy"),
        (["RUN", "out", "--format", "bmp"], "--format 'bmp' is not one of"),
        (["RUN", "out", "--workers", "0"], "both must be above 0"),
        (["RUN", "out", "--memory-gb", "nan"], "both must be above 0"),
        (["RUN", "pool"], "pool is there, and is no materialised selection"),
    ],
)
def test_a_mistake_ends_in_one_sentence_and_code_2(call, run_dir, tmp_path, words, says):
    write_subset(tmp_path / "s.npy", np.array([[1, 2]], np.uint64))
    code, _, err = call("materialize", *(run_dir if w == "RUN" else w for w in words))
    assert code == 2 and says in err and "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_a_pool_that_has_changed_since_the_run_is_refused(
    call, run_dir, tmp_path, make_tar, picture
):
    make_tar(tmp_path / "pool" / "1.tar", [("a", {"png": picture(), "txt": b"x"})])
    code, _, err = call("materialize", run_dir, "out")
    assert code == 2 and "has changed since it was indexed" in err


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_stops_it_with_code_75_and_the_same_command_goes_on(
    tmp_path, make_tar, picture, workers
):
    data = picture(size=(300, 300), form="JPEG")
    for shard in range(2):
        samples = [(f"{shard}{i:03d}", {"jpg": data, "txt": b"x"}) for i in range(100)]
        make_tar(tmp_path / "pool" / f"{shard}.tar", samples)
    pool = Pool(tmp_path / "i", build_index([str(tmp_path / "pool")], tmp_path / "i"))
    write_subset(tmp_path / "s.npy", pool.uids_of(np.arange(pool.rows)))
    words = ["s.npy", "out", "--shards", "pool", "--index-dir", "i", "--samples-per-shard", "10"]
    words += ["--resize", "280", "--format", "webp", "--workers", str(workers)]
    command = [sys.executable, "-m", "selffilter", "materialize", *words]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out").glob("*_stats.json")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of its processes
    err = process.communicate(timeout=120)[1]
    assert process.returncode == 75, err
    assert "The same command goes on:  selffilter materialize s.npy out" in err
    assert "Traceback" not in err
    done = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.tar")}
    assert 0 < len(done) < 20 and not list(tmp_path.rglob("out/.*.tmp"))
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
    assert len(list((tmp_path / "out").glob("*_stats.json"))) == 20
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in done.items())
