"""Shards that lie elsewhere now: a run goes on with them if they are the same, and only then."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from test_end_to_end import config_of, go, home, same_run, whole
from typer.testing import CliRunner

from benchmarks.pool.serving import FolderServer
from selffilter.cli import app
from selffilter.config import read_run_config
from selffilter.errors import UserError
from selffilter.pool.index import Pool, build_index
from selffilter.pool.index_files import ROW_SCHEMA, read_arrow, rows_file, write_arrow
from selffilter.pool.moving import move_shards
from selffilter.store import RunStore, read_json

__all__ = ["home", "whole"]


def copy(pool: Path, to: Path) -> Path:
    """Copy as `cp -r` does: other times of modification."""
    to.mkdir(parents=True)
    for path in sorted(pool.glob("*.tar")):
        (to / path.name).write_bytes(path.read_bytes())
        os.utime(to / path.name, ns=(1, 1))
    return to


# --- the index follows ----------------------------------------------------------------------------


def test_rows_keep_their_numbers_and_uids_wherever_their_shards_lie(
    tiny_pool: Pool, tmp_path: Path
):
    there = copy(tmp_path / "pool", tmp_path / "elsewhere")  # another name for the source
    shutil.rmtree(tmp_path / "pool")
    moved = move_shards(tiny_pool, [str(there)])
    pool = Pool(tiny_pool.index_dir, moved.version)
    assert (moved.shards, moved.without_digest, moved.others) == (3, 0, 0)
    assert pool.first_row.tolist() == tiny_pool.first_row.tolist()
    assert pool.sources == tiny_pool.sources == ["pool"]
    rows = np.arange(pool.rows)
    assert (pool.uids_of(rows) == tiny_pool.uids_of(rows)).all()
    assert pool.location(2) == str(there / "00002.tar")
    assert list(pool.changed_shards()) == []
    # What knows rows by their version still knows them.
    assert pool.rows_version == tiny_pool.version != pool.version
    assert not (pool.index_dir / "moving" / tiny_pool.version).exists()


def test_shards_keep_the_order_in_which_they_were_indexed(
    make_tar, picture, tmp_path: Path
) -> None:
    sample = {"png": picture(1), "txt": b"late"}
    make_tar(tmp_path / "pool" / "b.tar", [("1", sample)])
    build_index([str(tmp_path / "pool")], tmp_path / "index")
    make_tar(tmp_path / "pool" / "a.tar", [("2", sample)])  # comes behind the one that was there
    pool = Pool(tmp_path / "index", build_index([str(tmp_path / "pool")], tmp_path / "index"))
    there = copy(tmp_path / "pool", tmp_path / "there" / "pool")
    make_tar(there / "0.tar", [("3", sample)])
    moved = move_shards(pool, [str(there)])
    assert moved.others == 1
    now = Pool(tmp_path / "index", moved.version)
    assert [now.shard_name(s) for s in range(now.shards)] == ["pool/b.tar", "pool/a.tar"]


def test_nothing_is_written_when_all_lie_where_they_were(tiny_pool: Pool, tmp_path: Path) -> None:
    moved = move_shards(tiny_pool, [str(tmp_path / "pool")])
    assert (moved.version, moved.shards) == (tiny_pool.version, 0)


def test_a_pool_may_move_to_a_server_and_back(tiny_pool: Pool, tmp_path: Path) -> None:
    with FolderServer(tmp_path / "pool") as server:
        spec = f"pool={server.url}/{{00000..00002}}.tar"
        far = Pool(tiny_pool.index_dir, move_shards(tiny_pool, [spec]).version)
        assert far.location(0).startswith("http://")
    back = Pool(tiny_pool.index_dir, move_shards(far, [str(tmp_path / "pool")]).version)
    assert [back.location(s) for s in range(3)] == [tiny_pool.location(s) for s in range(3)]
    assert back.rows_version == tiny_pool.version


def test_a_missing_shard_is_named(tiny_pool: Pool, tmp_path: Path) -> None:
    there = copy(tmp_path / "pool", tmp_path / "there" / "pool")
    (there / "00001.tar").unlink()
    with pytest.raises(UserError, match=r"pool/00001\.tar of the 3 shards of the run is not there"):
        move_shards(tiny_pool, [str(there)])
    (there / "00002.tar").unlink()
    with pytest.raises(UserError, match=r"pool/00001\.tar and 1 more of the 3 shards .* are not"):
        move_shards(tiny_pool, [str(there)])


def test_a_shard_of_another_size_is_named(tiny_pool: Pool, tmp_path: Path) -> None:
    there = copy(tmp_path / "pool", tmp_path / "there" / "pool")
    with (there / "00001.tar").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(UserError, match=r"00001\.tar is not the shard .*: it has [\d,]+ bytes and"):
        move_shards(tiny_pool, [str(there)])


def swap(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert len(old) == len(new) and old in data
    path.write_bytes(data.replace(old, new, 1))


def test_other_contents_of_the_same_size_are_found_out(tiny_pool: Pool, tmp_path: Path) -> None:
    there = copy(tmp_path / "pool", tmp_path / "there" / "pool")
    swap(there / "00002.tar", b"caption 6", b"caption 9")
    with pytest.raises(UserError, match=r"00002\.tar is not the shard .* bytes are others"):
        move_shards(tiny_pool, [str(there)])
    assert Pool.latest(tiny_pool.index_dir).version == tiny_pool.version


def test_samples_in_another_order_are_found_out(make_tar, picture, tmp_path: Path) -> None:
    members = {"png": picture(1), "txt": b"text"}
    for folder, keys in (("pool", "abc"), ("there", "acb")):
        make_tar(tmp_path / folder / "0.tar", [(key, members) for key in keys])
    pool = Pool(tmp_path / "index", build_index([str(tmp_path / "pool")], tmp_path / "index"))
    with pytest.raises(UserError, match="b, its sample 1, has another key"):
        move_shards(pool, [str(tmp_path / "there")])


def test_of_an_older_index_headers_alone_are_compared_and_that_is_said(
    tiny_pool: Pool, tmp_path: Path
) -> None:
    for shard in range(tiny_pool.shards):
        path = rows_file(tiny_pool.index_dir, tiny_pool.fingerprint(shard))
        table = read_arrow(path)
        about = {k: v for k, v in table.schema.metadata.items() if k != b"digest"}
        write_arrow(table.cast(ROW_SCHEMA).replace_schema_metadata(about), path)
    old = Pool(tiny_pool.index_dir, tiny_pool.version)
    there = copy(tmp_path / "pool", tmp_path / "there" / "pool")
    assert move_shards(old, [str(there)]).without_digest == 3


def test_sources_are_matched_by_name_or_by_place(make_tar, picture, tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_tar(tmp_path / name / "0.tar", [(name, {"png": picture(1), "txt": name.encode()})])
    specs = [str(tmp_path / "a"), str(tmp_path / "b")]
    pool = Pool(tmp_path / "index", build_index(specs, tmp_path / "index"))
    a, b = copy(tmp_path / "a", tmp_path / "x"), copy(tmp_path / "b", tmp_path / "y")
    for said in ([str(a), str(b)], [f"b={b}", f"a={a}"]):
        now = Pool(tmp_path / "index", move_shards(pool, said).version)
        assert [now.location(s) for s in (0, 1)] == [str(a / "0.tar"), str(b / "0.tar")]
    with pytest.raises(UserError, match="has 2 sources, a, b; say where each of them lies now"):
        move_shards(pool, [str(a)])


# --- and the run with it --------------------------------------------------------------------------


def test_a_run_whose_shards_have_moved_goes_on_to_the_same_run(
    whole: RunStore, home: Path, tmp_path: Path
) -> None:
    first = copy(home / "pool", tmp_path / "first" / "pool")
    here = (f"pool.shards=[{first}]", f"pool.index_dir={tmp_path / 'index'}")
    go(config_of(home, tmp_path, "run", *here), only="train")
    go(config_of(home, tmp_path, "run", *here), only="score")
    second = tmp_path / "second" / "renamed"
    shutil.copytree(first, second)
    for path in second.glob("*.tar"):
        os.utime(path, ns=(2, 2))
    shutil.rmtree(first)
    with pytest.raises(UserError, match=r"00000\.tar and 3 more of 4 are gone.*pool\.shards="):
        go(config_of(home, tmp_path, "run", *here))
    there = (f"pool.shards=[{second}]", here[1])
    store = go(config_of(home, tmp_path, "run", *there))
    same_run(whole, store)
    assert read_run_config(store.config_path).pool.shards == [str(second)]
    record = read_json(store.root / "environment.json")
    (moved,) = record["moved"]
    assert (moved["from"], moved["to"]) == ([str(first)], [str(second)])
    assert (moved["shards"], moved["version"]) == (4, record["pool"]["version"])
    assert record["continued"][-1]["config"] == {"pool.shards": [[str(first)], [str(second)]]}


def test_a_wrong_place_changes_nothing_of_the_run(home: Path, tmp_path: Path) -> None:
    go(config_of(home, tmp_path, "run"), only="train")
    store = RunStore(tmp_path / "run")
    before = {p: p.read_bytes() for p in store.root.rglob("*") if p.is_file()}
    there = copy(home / "pool", tmp_path / "pool")
    (there / "00002.tar").unlink()
    with pytest.raises(UserError, match=r"pool/00002\.tar of the 4 shards"):
        go(config_of(home, tmp_path, "run", f"pool.shards=[{there}]"))
    assert before == {p: p.read_bytes() for p in store.root.rglob("*") if p.is_file()}


def test_an_index_that_has_moved_is_found_where_the_config_says(home: Path, tmp_path: Path) -> None:
    here = f"pool.index_dir={tmp_path / 'index'}"
    go(config_of(home, tmp_path, "run", here), only="train")
    (tmp_path / "index").rename(tmp_path / "there")
    with pytest.raises(UserError, match=r"index that this run was begun with is not in .*/index "):
        go(config_of(home, tmp_path, "run", here), only="score")
    store = go(config_of(home, tmp_path, "run", f"pool.index_dir={tmp_path}/there"), only="score")
    assert read_json(store.root / "environment.json")["pool"]["index_dir"] == f"{tmp_path}/there"


def call(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["pool", "move", *map(str, words)])
    if isinstance(result.exception, UserError):
        raise result.exception
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout


def test_shards_that_were_copied_over_each_other_are_followed_by_command(
    home: Path, tmp_path: Path
) -> None:
    pool = copy(home / "pool", tmp_path / "pool")
    config = config_of(
        home, tmp_path, "run", f"pool.shards=[{pool}]", f"pool.index_dir={tmp_path}/i"
    )
    go(config, only="train")
    os.utime(pool / "00001.tar", ns=(3, 3))
    with pytest.raises(UserError, match=r"00001\.tar has changed .* `selffilter pool move RUN"):
        go(config, only="score")
    said = call(tmp_path / "run", pool)
    assert "version  " in said and "go on    selffilter run" in said
    go(config, only="score")
    scores = pq.read_table(tmp_path / "run" / "rounds" / "000" / "scores" / "00001.parquet")
    assert scores.num_rows == 40


def test_a_run_in_use_is_not_moved(home: Path, tmp_path: Path) -> None:
    from selffilter.store import Lease

    go(config_of(home, tmp_path, "run"), only="train")
    with Lease(tmp_path / "run"), pytest.raises(UserError, match="is in use by process"):
        call(tmp_path / "run", home / "pool")
