import json

import fsspec
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from selffilter.cli import app
from selffilter.errors import UserError
from selffilter.pool.index import Pool
from selffilter.pool.stores.remote import RemoteStore


@pytest.fixture
def pools(make_tar, picture, tmp_path, monkeypatch):
    """Two sources of 3 + 2 good samples; the index goes below the working directory."""
    monkeypatch.chdir(tmp_path)
    for name, count in (("a", 3), ("b", 2)):
        samples = [
            (f"{name}-{i}", {"png": picture(i), "txt": f"caption {i}".encode()})
            for i in range(count)
        ]
        make_tar(tmp_path / name / "00000.tar", samples)
    return ["a", "b"]


def call(*words, code=0):
    result = CliRunner().invoke(app, ["pool", *map(str, words)])
    if isinstance(result.exception, UserError):
        raise result.exception
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout


def test_index_says_where_the_index_is_and_what_is_in_it(pools, tmp_path):
    said = call("index", *pools)
    where = next((tmp_path / "runs" / "_pools").iterdir())
    assert f"index    {where}\n" in said
    assert "samples  5 in 2 shards" in said
    assert Pool.latest(where).rows == 5
    assert call("index", *pools, "--index-dir", tmp_path / "elsewhere").startswith("index    ")
    assert Pool.latest(tmp_path / "elsewhere").rows == 5


def test_index_tells_what_is_broken_or_cannot_be_used(pools, make_tar, tmp_path):
    make_tar(tmp_path / "a" / "1.tar", [("x", {"png": b"i"})])
    (tmp_path / "b" / "1.tar").write_bytes(b"")
    said = call("index", *pools)
    assert "unusable 1 missing_caption" in said
    assert "broken   b/1.tar: empty file (0 samples before it)" in said


def test_inspect_tells_of_each_source_and_of_all(pools, make_tar, picture, tmp_path):
    make_tar(tmp_path / "b" / "1.tar", [("x", {"jpg": picture(1, form="JPEG")})])
    said = call("inspect", *pools)
    lines = [line.split()[:3] for line in said.splitlines()]
    assert ["a", "1", "3"] in lines
    assert ["b", "2", "3"] in lines
    assert ["all", "3", "6"] in lines
    assert "images    1 jpg, 5 png" in said
    assert "unusable  1 missing_caption" in said
    found = json.loads(call("inspect", *pools, "--json"))
    assert found["caption_key"] == "txt"
    assert {name: part["samples"] for name, part in found["sources"].items()} == {"a": 3, "b": 3}
    assert found["total"]["image_kinds"] == {"jpg": 1, "png": 5}
    assert found["total"]["unusable"] == {"missing_caption": 1}


def test_an_index_can_be_named_instead_of_its_shards(pools, tmp_path):
    call("index", *pools, "--index-dir", tmp_path / "i")
    found = json.loads(call("inspect", tmp_path / "i", "--json"))
    assert (found["total"]["samples"], found["index_dir"]) == (5, str(tmp_path / "i"))
    assert json.loads(call("verify", tmp_path / "i", "--json"))["wrong"] == 0


def test_inspect_draws_a_sheet(pools, tmp_path):
    call("inspect", *pools, "--sheet", tmp_path / "sheet.png", "--samples", 2)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.width > sheet.height
    with pytest.raises(UserError, match="--samples 0"):
        call("inspect", *pools, "--samples", 0)


def test_verify_is_content_with_what_is_as_it_was(pools):
    call("index", *pools)
    assert "2 of 2 are as they were indexed" in call("verify", *pools)
    assert "5 read and decoded, all of them usable" in call("verify", *pools, "--deep")


def test_verify_needs_an_index(pools):
    with pytest.raises(UserError, match="holds no pool index"):
        call("verify", *pools)


def test_verify_finds_what_has_changed_or_is_gone(pools, make_tar, tmp_path):
    call("index", *pools)
    make_tar(tmp_path / "a" / "00000.tar", [("other", {"png": b"i", "txt": b"t"})])
    (tmp_path / "b" / "00000.tar").unlink()
    said = call("verify", *pools, "--deep", code=1)
    assert f"changed  {tmp_path}/a/00000.tar" in said
    assert f"gone     {tmp_path}/b/00000.tar" in said
    assert "0 of 2 are as they were indexed" in said
    assert "not looked at" in said
    found = json.loads(call("verify", *pools, "--json", code=1))
    assert found["wrong"] == 2
    assert set(found["changed"].values()) == {"changed", "gone"}


def test_verify_tells_a_server_that_does_not_answer_from_a_change(pools, tmp_path, monkeypatch):
    files = fsspec.filesystem("memory")
    files.pipe("/silent/00000.tar", (tmp_path / "a" / "00000.tar").read_bytes())
    call("index", "memory://silent")
    files.rm("/silent", recursive=True)

    def refuse(self, location):
        raise OSError(f"{location}: connection refused")

    monkeypatch.setattr(RemoteStore, "stat", refuse)
    said = call("verify", "memory://silent", code=1)
    assert "silent   memory:///silent/00000.tar\n" in said
    assert "no answer: memory:///silent/00000.tar: connection refused" in said
    assert "0 of 1 are as they were indexed" in said


def test_verify_counts_and_lists_what_cannot_be_decoded(pools, make_tar, picture, tmp_path):
    make_tar(
        tmp_path / "a" / "1.tar",
        [("cut", {"png": picture(1)[:-60], "txt": b"t"}), ("no", {"png": picture(1)})],
    )
    call("index", *pools)
    assert "3 of 3 are as they were indexed" in call("verify", *pools)
    said = call("verify", *pools, "--deep", "--failures", tmp_path / "f.parquet", code=1)
    assert "7 read and decoded, unusable: 1 missing_caption, 1 image_truncated" in said
    listed = pq.read_table(tmp_path / "f.parquet").to_pylist()
    assert [(row["source"], row["shard"], row["key"], row["reason"]) for row in listed] == [
        ("a", "1.tar", "cut", "image_truncated"),
        ("a", "1.tar", "no", "missing_caption"),
    ]
    found = json.loads(call("verify", *pools, "--deep", "--max-image-bytes", 10, "--json", code=1))
    assert found["unusable"] == {"image_too_large": 6, "missing_caption": 1}
    few = json.loads(call("verify", *pools, "--deep", "--fraction", 0.5, "--json", code=1))
    assert 0 < few["samples"] < 7


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--deep", "--fraction", "0"], "--fraction 0.0 is not above 0"),
        (["--fraction", "0.5"], "add --deep"),
        (["--failures", "f.parquet"], "add --deep"),
    ],
)
def test_options_that_make_no_sense_are_refused(pools, words, said):
    with pytest.raises(UserError, match=said):
        call("verify", *pools, *words)


def test_what_an_index_says_itself_cannot_be_said_again(pools, tmp_path):
    call("index", *pools, "--index-dir", "i")
    call("inspect", "i", "--caption-key", "txt")
    with pytest.raises(UserError, match=r"indexed with pool\.caption_key=txt, not json:caption"):
        call("inspect", "i", "--caption-key", "json:caption")
    for command in ("inspect", "verify"):
        with pytest.raises(UserError, match="i is an index itself: leave out --index-dir j"):
            call(command, "i", "--index-dir", "j")


def test_a_file_is_written_under_a_name_that_says_what_it_is(pools, tmp_path):
    call("index", *pools, "--index-dir", "i")
    with pytest.raises(UserError, match=r"--sheet s\.jpg: .* a \.png file"):
        call("inspect", "i", "--sheet", "s.jpg")
    for words in (["verify", "i", "--deep"], ["coverage", "run"]):
        with pytest.raises(UserError, match=r"--failures f\.csv: .* a \.parquet file"):
            call(*words, "--failures", "f.csv")
    assert not list(tmp_path.glob("[sf].*"))


def test_commands_run_only_when_they_are_allowed(pools, tmp_path):
    pipe = f"pipe:cat {tmp_path}/a/00000.tar"
    with pytest.raises(UserError, match="would run a shell command"):
        call("index", pipe)
    assert "samples  3 in 1 shards" in call("index", pipe, "--allow-pipe")
    assert "1 of 1" in call("verify", pipe)
    with pytest.raises(UserError, match="would run a shell command"):
        call("verify", pipe, "--deep")
    assert "3 read and decoded" in call("verify", pipe, "--deep", "--allow-pipe")


def test_a_pool_on_a_server_is_inspected_and_verified_like_one_on_a_disk(pools, tmp_path):
    files = fsspec.filesystem("memory")
    files.pipe("/far/00000.tar", (tmp_path / "a" / "00000.tar").read_bytes())
    assert "samples  3 in 1 shards" in call("index", "memory://far")
    # One process: a server in memory is not there in another.
    assert "3 read and decoded" in call("verify", "memory://far", "--deep", "--workers", 0)
    files.pipe("/far/00000.tar", b"other")
    assert "changed  memory:///far/00000.tar" in call("verify", "memory://far", code=1)
    files.rm("/far", recursive=True)
