import json
import os
from pathlib import Path

import fsspec
import numpy as np
import pytest

from selffilter.errors import StoreGone, UserError
from selffilter.pool import uids
from selffilter.pool.failures import Failure
from selffilter.pool.index import Pool, build_index, default_index_dir
from selffilter.pool.tar_scan import scan_tar

PAIR = {"png": b"image", "txt": b"caption"}


def open_pool(specs, index_dir, **kwargs):
    return Pool(index_dir, build_index([str(spec) for spec in specs], index_dir, **kwargs))


def keys(pool):
    return [
        key for shard in range(pool.shards) for key in pool.shard_table(shard)["key"].to_pylist()
    ]


def stated(uid, **members):
    return {**PAIR, "json": json.dumps({"uid": uid}).encode(), **members}


def test_a_row_is_its_shards_first_row_and_its_place_in_it(tiny_pool):
    assert (tiny_pool.rows, tiny_pool.shards) == (8, 3)
    assert tiny_pool.first_row.tolist() == [0, 4, 5, 8]
    assert keys(tiny_pool) == [f"{i:04d}" for i in range(8)]
    assert tiny_pool.shard_of(np.arange(8)).tolist() == [0] * 4 + [1] + [2] * 3
    assert tiny_pool.shard_rows(2).tolist() == [5, 6, 7]


def test_the_index_says_where_the_bytes_of_every_row_are(tiny_pool, picture):
    for shard in range(3):
        data = Path(tiny_pool.location(shard)).read_bytes()
        for row, place in zip(
            tiny_pool.shard_rows(shard), tiny_pool.shard_table(shard).to_pylist(), strict=True
        ):
            image, caption = (
                data[place[f"{what}_offset"] :][: place[f"{what}_size"]]
                for what in ("image", "caption")
            )
            assert image == picture(int(row))
            assert caption == f"caption {row}".encode()


def test_a_second_look_finds_the_same_version_and_scans_nothing(tiny_pool, tmp_path, monkeypatch):
    monkeypatch.setattr("selffilter.pool.index.scan_tar", lambda *_: pytest.fail("scanned again"))
    assert build_index([str(tmp_path / "pool")], tmp_path / "index") == tiny_pool.version


def test_a_version_is_named_by_its_content_wherever_the_index_lies(tiny_pool, tmp_path):
    assert open_pool([tmp_path / "pool"], tmp_path / "other").version == tiny_pool.version


def test_added_shards_keep_the_rows_of_the_old_ones(tiny_pool, make_tar, tmp_path):
    before = tiny_pool.uids_of(np.arange(8))
    # By name it would stand before all the others.
    make_tar(tmp_path / "pool" / "-first.tar", [("new", PAIR)])
    grown = open_pool([tmp_path / "pool"], tmp_path / "index")
    assert grown.version != tiny_pool.version
    np.testing.assert_array_equal(grown.uids_of(np.arange(8)), before)
    assert keys(grown)[8:] == ["new"]
    make_tar(tmp_path / "pool" / "00000b.tar", [("newer", PAIR)])
    assert keys(open_pool([tmp_path / "pool"], tmp_path / "index"))[8:] == ["new", "newer"]
    # A version is immutable: the old one is what it was.
    again = Pool(tmp_path / "index", tiny_pool.version)
    assert (again.rows, again.shards) == (8, 3)


def test_a_changed_shard_begins_a_new_numbering_and_leaves_the_old_version(
    tiny_pool, make_tar, tmp_path
):
    make_tar(tmp_path / "pool" / "00000.tar", [("other", PAIR)])
    new = open_pool([tmp_path / "pool"], tmp_path / "index")
    assert keys(new) == ["other", "0004", "0005", "0006", "0007"]
    assert keys(Pool(tmp_path / "index", tiny_pool.version))[:2] == ["0000", "0001"]


def test_check_shards_refuses_a_changed_and_a_missing_shard_by_name(tiny_pool, make_tar):
    tiny_pool.check_shards()
    path = Path(tiny_pool.location(1))
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    with pytest.raises(UserError, match=r"00001\.tar has changed"):
        tiny_pool.check_shards()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    tiny_pool.check_shards()
    with path.open("ab") as file:
        file.write(b"more")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(UserError, match=r"00001\.tar has changed"):
        tiny_pool.check_shards()
    path.unlink()
    with pytest.raises(UserError, match=r"00001\.tar is gone"):
        tiny_pool.check_shards()


def test_two_sources_with_the_same_shard_names_and_keys_have_different_uids(make_tar, tmp_path):
    for name in ("a", "b"):
        make_tar(tmp_path / name / "00000.tar", [("000000000", PAIR)])
    pool = open_pool([tmp_path / "a", tmp_path / "b"], tmp_path / "index")
    first, second = uids.to_hex(pool.uids_of(np.arange(2)))
    assert first != second
    assert pool.defect_counts() == {}
    assert [pool.shard_name(s) for s in range(2)] == ["a/00000.tar", "b/00000.tar"]


def test_two_sources_of_the_same_name_are_refused(make_tar, tmp_path):
    for name in ("x/pool", "y/pool"):
        make_tar(tmp_path / name / "00000.tar", [("0", PAIR)])
    with pytest.raises(UserError, match="two sources are called 'pool'"):
        open_pool([tmp_path / "x/pool", tmp_path / "y/pool"], tmp_path / "index")


def test_a_pool_that_is_moved_keeps_its_uids(make_tar, tmp_path):
    make_tar(tmp_path / "here" / "pool" / "a.tar", [("0", PAIR)])
    before = open_pool([tmp_path / "here" / "pool"], tmp_path / "i").uids_of(np.arange(1))
    (tmp_path / "here").rename(tmp_path / "there")
    after = open_pool([tmp_path / "there" / "pool"], tmp_path / "j").uids_of(np.arange(1))
    np.testing.assert_array_equal(before, after)


def test_defects_are_known_with_their_reason_and_only_the_first_of_equal_uids_stays(
    make_tar, tmp_path
):
    one, two = "1" * 32, "2" * 32
    make_tar(
        tmp_path / "pool" / "0.tar",
        [
            ("ok", stated(one)),
            ("no image", {"txt": b"t"}),
            ("no caption", {"png": b"i"}),
            ("neither", {"json": b"{}"}),
            ("again", stated(one)),
        ],
    )
    make_tar(
        tmp_path / "pool" / "1.tar",
        [("once more", stated(one.upper())), ("fine", stated(two)), ("also fine", PAIR)],
    )
    pool = open_pool([tmp_path / "pool"], tmp_path / "index")
    rows, reasons = pool.defects(0)
    assert rows.tolist() == [1, 2, 3, 4]
    assert [Failure(r).name for r in reasons] == [
        "missing_image", "missing_caption", "missing_image", "duplicate_uid",
    ]  # fmt: skip
    assert pool.defects(1)[0].tolist() == [5]
    assert pool.defect_counts() == {"missing_image": 2, "missing_caption": 1, "duplicate_uid": 2}
    assert pool.uids_of(np.array([0, 6])).tolist() == uids.from_hex([one, two]).tolist()


def test_the_same_key_twice_in_a_shard_gives_the_second_as_a_duplicate(make_tar, tmp_path):
    make_tar(tmp_path / "p" / "0.tar", [("a", PAIR), ("b", PAIR), ("a", PAIR)])
    pool = open_pool([tmp_path / "p"], tmp_path / "index")
    assert pool.defects(0)[0].tolist() == [2]


def test_broken_tars_are_told_and_the_rest_is_used(make_tar, tmp_path):
    whole = make_tar(tmp_path / "p" / "0.tar", [("a", PAIR), ("b", PAIR)])
    (tmp_path / "p" / "1.tar").write_bytes(b"")
    (tmp_path / "p" / "2.tar").write_bytes(whole.read_bytes()[: 512 * 6])
    (tmp_path / "p" / "3.tar").write_text("an error page of some web server")
    pool = open_pool([tmp_path / "p"], tmp_path / "index")
    assert keys(pool) == ["a", "b", "a", "b"]
    assert [problem.split(":")[0] for problem in pool.problems()] == [
        "p/1.tar", "p/2.tar", "p/3.tar",
    ]  # fmt: skip
    assert "cut off" in pool.problems()[1]
    assert pool.defect_counts() == {"missing_caption": 1}


def test_a_pool_without_a_single_sample_is_refused_with_the_reason(make_tar, tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "0.tar").write_bytes(b"")
    with pytest.raises(UserError, match=r"no samples in .*/p: empty file"):
        open_pool([tmp_path / "p"], tmp_path / "index")
    make_tar(tmp_path / "p" / "0.tar", [])
    with pytest.raises(UserError, match=r"no samples in .*/p: the tars are empty"):
        open_pool([tmp_path / "p"], tmp_path / "index")


def test_a_tar_that_cannot_be_opened_is_refused_by_name(make_tar, tmp_path, monkeypatch):
    make_tar(tmp_path / "p" / "0.tar", [("a", PAIR)])

    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("selffilter.pool.index.scan_tar", denied)
    with pytest.raises(UserError, match=r"cannot read .*0\.tar: Permission denied"):
        open_pool([tmp_path / "p"], tmp_path / "index")


def test_names_of_any_bytes_can_be_indexed(tmp_path):
    import tarfile

    (tmp_path / "p").mkdir()
    strange = [b"\xff\xfe".decode("utf-8", "surrogateescape"), "鍵", "a b'\"<&>\n"]
    with tarfile.open(tmp_path / "p" / "0.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for name in strange:
            tar.addfile(tarfile.TarInfo(f"{name}.png"))
            tar.addfile(tarfile.TarInfo(f"{name}.txt"))
    pool = open_pool([tmp_path / "p"], tmp_path / "index")
    assert keys(pool) == [r"\xff\xfe", *strange[1:]]


def test_another_caption_key_is_another_version(tiny_pool, tmp_path):
    other = open_pool([tmp_path / "pool"], tmp_path / "index", caption_key="txt,json:caption")
    assert other.version != tiny_pool.version
    assert (tiny_pool.caption_key, other.caption_key) == ("txt", "txt,json:caption")
    with pytest.raises(UserError, match=r"indexed with pool\.caption_key=txt, not json:a"):
        Pool(tmp_path / "index", tiny_pool.version, "json:a")


@pytest.mark.parametrize(
    ("members", "caption_key", "said"),
    [
        ({"webp": b"i", "cls": b"3"}, "txt", r"has a caption at pool\.caption_key=txt\. .*"
         r"extensions: webp \(2\), cls \(2\)\."),
        (PAIR, "json:caption", r"caption_key=json:caption.*png \(2\), txt \(2\)"),
        ({"flac": b"i", "txt": b"t"}, "txt", r"has an image\. .*flac \(2\), txt \(2\)"),
    ],
)  # fmt: skip
def test_a_pool_where_nothing_stands_where_it_is_looked_for_is_refused_with_what_is_there(
    make_tar, tmp_path, members, caption_key, said
):
    make_tar(tmp_path / "p" / "0.tar", [("a", members), ("b", members)])
    with pytest.raises(UserError, match=said):
        open_pool([tmp_path / "p"], tmp_path / "index", caption_key=caption_key)


def test_many_shards_are_scanned_by_several_processes_with_the_same_result(make_tar, tmp_path):
    for i in range(33):
        make_tar(tmp_path / "p" / f"{i:03d}.tar", [(f"{i}-{j}", PAIR) for j in range(2)])
    alone = open_pool([tmp_path / "p"], tmp_path / "one")
    several = open_pool([tmp_path / "p"], tmp_path / "two", workers=2)
    assert alone.version == several.version
    assert keys(alone) == keys(several)


def test_the_default_folder_depends_on_the_sources(tmp_path):
    folders = {default_index_dir(s, tmp_path) for s in (["a"], ["b"], ["a", "b"], ["b", "a"])}
    assert len(folders) == 4
    assert {folder.parent for folder in folders} == {tmp_path / "_pools"}


# --- layouts ----------------------------------------------------------------------------------

ABOUT = {"caption": "inside", "key": "000000000", "url": "u", "status": "success"}


@pytest.mark.parametrize(
    ("shards", "spec", "caption_key", "expected"),
    [
        # img2dataset
        ({"00000.tar": {"jpg": b"i", "txt": b"outside", "json": ABOUT}}, "", "txt", b"outside"),
        ({"00000.tar": {"jpg": b"i", "json": ABOUT}}, "", "json:caption", ABOUT),
        # DataComp
        (
            {"00000007.tar": {"jpg": b"i", "txt": b"t", "json": ABOUT | {"uid": "d" * 32}}},
            "/{00000007..00000007}.tar", "txt", b"t",
        ),
        # plain webdataset, several captions in the json
        ({"train-0001.tar": {"png": b"i", "json": {"captions": ["a", "b"]}}},
         "/train-*.tar", "json:captions", {"captions": ["a", "b"]}),
        # a re-captioned set: both count, the member is the caption's place
        ({"0.tar": {"webp": b"i", "txt": b"alt", "json": ABOUT}}, "", "txt,json:caption", b"alt"),
        # CLIP_benchmark, retrieval
        ({"test/0.tar": {"jpg": b"i", "txt": b"one\ntwo\n"}}, "/test/*.tar", "txt:lines",
         b"one\ntwo\n"),
    ],
)  # fmt: skip
def test_a_layout_is_read_where_its_captions_stand(
    make_tar, tmp_path, shards, spec, caption_key, expected
):
    def raw(value):
        return json.dumps(value).encode() if isinstance(value, dict) else value

    for name, members in shards.items():
        samples = [("000000000", {e: raw(value) for e, value in members.items()})]
        tar = make_tar(tmp_path / "pool" / name, samples)
    pool = open_pool([f"{tmp_path}/pool{spec}"], tmp_path / "index", caption_key=caption_key)
    offset, size = (column[0] for column in pool.places(0)["caption"])
    assert tar.read_bytes()[offset : offset + size] == raw(expected)
    assert pool.defect_counts() == {}
    if "00000007.tar" in shards:
        assert uids.to_hex(pool.uids_of(np.arange(1))) == ["d" * 32]


def test_a_row_lacks_its_caption_only_if_all_places_do(make_tar, tmp_path):
    samples = [
        ("both", {"png": b"i", "txt": b"t", "json": b"{}"}),
        ("text", {"png": b"i", "txt": b"t"}),
        ("json", {"png": b"i", "json": b"{}"}),
        ("none", {"png": b"i", "cls": b"1"}),
    ]
    make_tar(tmp_path / "p" / "0.tar", samples)
    pool = open_pool([tmp_path / "p"], tmp_path / "index", caption_key="txt,json:caption")
    assert pool.defects(0)[0].tolist() == [3]
    assert (pool.places(0)["caption"][0] >= 0).tolist() == [True, True, False, False]
    pool = open_pool([tmp_path / "p"], tmp_path / "index", caption_key="txt")
    assert pool.defects(0)[0].tolist() == [2, 3]


# --- elsewhere than on a disk -----------------------------------------------------------------


@pytest.fixture
def bucket(tiny_pool, tmp_path):
    files = fsspec.filesystem("memory")
    for path in sorted((tmp_path / "pool").glob("*.tar")):
        files.pipe(f"/bucket/pool/{path.name}", path.read_bytes())
    yield "memory://bucket/pool"
    files.rm("/bucket", recursive=True)


def same_rows(one, other):
    assert keys(one) == keys(other)
    for shard in range(one.shards):
        assert one.shard_table(shard).equals(other.shard_table(shard))


def test_a_pool_on_a_server_has_the_rows_that_it_has_on_a_disk(bucket, tiny_pool, tmp_path):
    far = open_pool([bucket], tmp_path / "far")
    same_rows(far, tiny_pool)
    assert far.location(0) == "memory:///bucket/pool/00000.tar"
    assert far.shard_bytes(1) == tiny_pool.shard_bytes(1)
    far.check_shards()
    fsspec.filesystem("memory").pipe("/bucket/pool/00001.tar", b"other")
    with pytest.raises(UserError, match=r"00001\.tar has changed"):
        far.check_shards()


def test_a_pool_behind_a_command_has_the_same_rows_once_commands_are_allowed(tiny_pool, tmp_path):
    spec = f"pool=pipe:cat {tmp_path}/pool/{{00000..00002}}.tar"
    with pytest.raises(UserError, match="would run a shell command"):
        open_pool([spec], tmp_path / "piped")
    piped = open_pool([spec], tmp_path / "piped", allow_pipe=True)
    assert keys(piped) == keys(tiny_pool)
    for shard in range(3):
        for member in ("image", "caption"):
            ours, theirs = piped.places(shard)[member], tiny_pool.places(shard)[member]
            np.testing.assert_array_equal(ours, theirs)
    piped.check_shards(allow_pipe=True)
    with pytest.raises(UserError, match="would run a shell command"):
        piped.check_shards()


def test_a_command_whose_output_ends_early_gives_what_is_before_the_end(tiny_pool, tmp_path):
    whole = (tmp_path / "pool" / "00000.tar").stat().st_size
    first = tiny_pool.places(0)["image"][0][2]
    pipe = f"pool=pipe:head -c {first + 3} {tmp_path}/pool/00000.tar"
    pool = open_pool([pipe], tmp_path / "piped", allow_pipe=True)
    assert keys(pool) == ["0000", "0001"]
    assert "cut off inside '0002.png'" in pool.problems()[0]
    assert pool.shard_bytes(0) < whole


def test_a_server_that_does_not_answer_is_gone_and_a_shard_that_is_not_there_is_a_mistake(
    bucket, tmp_path, monkeypatch
):
    with pytest.raises(UserError, match=r"there is no memory:///bucket/pool/9\.tar"):
        open_pool([f"{bucket}/9.tar"], tmp_path / "far")

    def away(*_):
        raise ConnectionError("connection refused")

    monkeypatch.setattr("selffilter.pool.index.scan_tar", away)
    with pytest.raises(StoreGone, match=r"memory:///bucket/pool/00000\.tar .*refused"):
        open_pool([bucket], tmp_path / "far")


# --- what else is known -----------------------------------------------------------------------


def test_a_new_numbering_is_told(tiny_pool, make_tar, tmp_path):
    said = []
    make_tar(tmp_path / "pool" / "00003.tar", [("new", PAIR)])
    open_pool([tmp_path / "pool"], tmp_path / "index", say=said.append)
    assert said == []
    make_tar(tmp_path / "pool" / "00001.tar", [("other", PAIR)])
    open_pool([tmp_path / "pool"], tmp_path / "index", say=said.append)
    assert "1 of the 4 shards" in said[0]
    assert "numbered afresh" in said[0]


def test_an_index_that_is_stopped_goes_on_where_it_was(make_tar, tmp_path, monkeypatch):
    for i in range(4):
        make_tar(tmp_path / "p" / f"{i}.tar", [(str(i), PAIR)])

    def stop_at_two(done=[0]):  # noqa: B006
        done[0] += 1
        if done[0] == 6:  # four were looked for, two scanned
            raise InterruptedError

    with pytest.raises(InterruptedError):
        open_pool([tmp_path / "p"], tmp_path / "index", should_go_on=stop_at_two)
    scanned = []
    monkeypatch.setattr(
        "selffilter.pool.index.scan_tar",
        lambda *args: scanned.append(Path(args[0]).name) or scan_tar(*args),
    )
    assert keys(open_pool([tmp_path / "p"], tmp_path / "index")) == ["0", "1", "2", "3"]
    assert scanned == ["2.tar", "3.tar"]


def test_the_latest_version_of_an_index_can_be_opened_and_an_empty_folder_is_refused(
    tiny_pool, tmp_path
):
    assert Pool.latest(tmp_path / "index").version == tiny_pool.version
    with pytest.raises(UserError, match="holds no pool index"):
        Pool.latest(tmp_path)
    with pytest.raises(UserError, match="index cannot be read"):
        Pool(tmp_path / "index", "0" * 16)
