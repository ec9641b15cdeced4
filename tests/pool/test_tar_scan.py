import io
import json
import tarfile

import pytest
import webdataset as wds

from selffilter.pool.decoding import IMAGE_EXTENSIONS
from selffilter.pool.tar_scan import ShardScan, scan_tar

UID = "0123456789abcdef0123456789ABCDEF"


def scan(path, caption_key="txt"):
    return scan_tar(str(path), "src", path.name, caption_key)


def by_webdataset(path):
    """Return webdataset's samples: key → {extension: bytes}, in order."""
    reader = wds.WebDataset(
        str(path), shardshuffle=False, empty_check=False, nodesplitter=lambda urls: urls
    )
    return [
        (sample["__key__"], {k: v for k, v in sample.items() if not k.startswith("__")})
        for sample in reader
    ]


def bytes_at(path, place):
    offset, size = place
    return None if offset < 0 else path.read_bytes()[offset : offset + size]


def assert_as_webdataset(path):
    """Check that keys, members and bytes at the offsets are those that webdataset reads."""
    found, expected = scan(path), by_webdataset(path)
    assert found.keys == [key for key, _ in expected]
    assert found.problem == ""
    for i, (_, members) in enumerate(expected):
        image = next((members[e] for e in IMAGE_EXTENSIONS if e in members), None)
        assert bytes_at(path, found.image[i]) == image
        assert bytes_at(path, found.caption[i]) == members.get("txt")
        assert bytes_at(path, found.json[i]) == members.get("json")
    assert len(found.uids) == len(found.keys)
    return found


def add(tar, name, data=b"x", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(data) if info.isreg() else None)


FULL = {"jpg": b"image bytes", "txt": b"a caption", "json": b'{"a": 1}'}


def test_an_img2dataset_shard_is_read_as_webdataset_reads_it(make_tar, tmp_path):
    samples = [
        (f"{i:09d}", {e: v + b"%d" % i * (400 * i) for e, v in FULL.items()}) for i in (4, 0, 9, 2)
    ]
    found = assert_as_webdataset(make_tar(tmp_path / "a.tar", samples))
    assert found.keys == ["000000004", "000000000", "000000009", "000000002"]


@pytest.mark.parametrize(
    "tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
def test_long_and_unicode_names_are_read_as_webdataset_reads_them(make_tar, tmp_path, tar_format):
    long = "folder/" * 12 + "k" * 90 if tar_format == tarfile.USTAR_FORMAT else "k" * 300
    samples = [(key, FULL) for key in (long, "naïve-ключ-鍵", "ordinary")]
    path = make_tar(tmp_path / "a.tar", samples, tar_format)
    assert assert_as_webdataset(path).keys == [key for key, _ in samples]


def test_the_key_ends_at_the_first_dot_of_the_basename(make_tar, tmp_path):
    members = {"b.jpg": b"not an image member", "b.txt": b"", "jpg": b"image", "txt": b"caption"}
    path = make_tar(tmp_path / "a.tar", [("a", members), ("folder.x/a", FULL)])
    found = assert_as_webdataset(path)
    assert found.keys == ["a", "folder.x/a"]
    assert bytes_at(path, found.image[0]) == b"image"


def test_samples_of_one_key_that_do_not_follow_each_other_are_several(make_tar, tmp_path):
    path = make_tar(tmp_path / "a.tar", [("a", {"jpg": b"1"}), ("b", FULL), ("a", {"txt": b"2"})])
    found = assert_as_webdataset(path)
    assert found.keys == ["a", "b", "a"]
    assert found.caption[0] == found.image[2] == (-1, -1)


def test_extensions_in_capitals_count(make_tar, tmp_path):
    path = make_tar(tmp_path / "a.tar", [("a", {"JPG": b"image", "Txt": b"caption"})])
    assert bytes_at(path, assert_as_webdataset(path).caption[0]) == b"caption"


def test_what_is_no_sample_is_passed_over_as_webdataset_does(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, "folder", b"", type=tarfile.DIRTYPE)
        add(tar, "README")
        add(tar, "folder/1.jpg", b"image 1")
        add(tar, "folder/LICENSE")
        add(tar, "folder/link.jpg", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(tar, "folder/1.txt", b"caption 1")
        add(tar, ".DS_Store")
        add(tar, "__index__", b"meta")
        add(tar, "2.webp", b"image 2")
        add(tar, "pipe.jpg", b"", type=tarfile.FIFOTYPE)
        add(tar, "2.txt", b"caption 2")
    found = assert_as_webdataset(tmp_path / "a.tar")
    assert found.keys == ["folder/1", "2"]


def test_a_key_never_has_characters_that_no_table_can_hold(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        add(tar, b"\xff\xfe".decode("utf-8", "surrogateescape") + ".jpg")
    (key,) = scan(tmp_path / "a.tar").keys
    key.encode("utf-8")


def test_the_first_known_extension_is_the_image(make_tar, tmp_path):
    path = make_tar(tmp_path / "a.tar", [("a", {"webp": b"webp", "png": b"png", "txt": b""})])
    assert bytes_at(path, scan(path).image[0]) == b"png"


def test_missing_members_have_no_place(make_tar, tmp_path):
    samples = [("1", {"jpg": b"i"}), ("2", {"txt": b"t"}), ("3", {"mp3": b"m"})]
    found = assert_as_webdataset(make_tar(tmp_path / "a.tar", samples))
    assert found.keys == ["1", "2", "3"]
    assert [place[0] < 0 for place in found.image] == [False, True, True]
    assert [place[0] < 0 for place in found.caption] == [True, False, True]


def test_an_empty_member_has_a_place_and_no_bytes(make_tar, tmp_path):
    path = make_tar(tmp_path / "a.tar", [("1", {"jpg": b"", "txt": b""})])
    assert bytes_at(path, assert_as_webdataset(path).image[0]) == b""


def test_the_caption_may_stand_in_any_member(make_tar, tmp_path):
    members = {"jpg": b"i", "caption": b"other", "json": b'{"caption": "inside"}'}
    path = make_tar(tmp_path / "a.tar", [("1", members)])
    assert bytes_at(path, scan(path, "caption").caption[0]) == b"other"
    found = scan(path, "json:caption")
    assert found.caption == found.json
    assert found.caption[0][0] > 0


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"not json",
        b"[1, 2]",
        b'"text"',
        b"null",
        b'{"uid": 5}',
        b'{"uid": "abc"}',
        b'{"uid": "' + b"g" * 32 + b'"}',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"uid": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_json_that_states_no_uid_leaves_the_one_of_the_place(make_tar, tmp_path, text):
    path = make_tar(tmp_path / "a.tar", [("1", {**FULL, "json": text}), ("2", FULL)])
    without = make_tar(tmp_path / "b" / "a.tar", [("1", {"jpg": b"i"}), ("2", {"jpg": b"i"})])
    assert scan(path).uids == scan(without).uids
    assert len(set(scan(path).uids)) == 2


def test_the_json_states_the_uid(make_tar, tmp_path):
    members = {**FULL, "json": json.dumps({"uid": UID}).encode()}
    assert scan(make_tar(tmp_path / "a.tar", [("1", members)])).uids == [bytes.fromhex(UID)]


def test_a_tar_cut_off_anywhere_gives_the_samples_before_the_cut(make_tar, tmp_path):
    samples = [(str(i), {"jpg": b"i" * 700, "txt": b"caption %d" % i}) for i in range(4)]
    whole = make_tar(tmp_path / "whole.tar", samples)
    data, full = whole.read_bytes(), scan(whole)
    ends = [offset + size for offset, size in full.caption]
    cut_off = tmp_path / "cut.tar"
    for length in range(0, ends[-1], 100):
        cut_off.write_bytes(data[:length])
        found = scan(cut_off)
        complete = sum(end <= length for end in ends)
        # A sample that lost its caption is there, and says so; nothing else is.
        assert found.keys[:complete] == full.keys[:complete]
        assert len(found.keys) <= complete + 1
        assert found.caption[:complete] == full.caption[:complete]
        for places in (found.image, found.caption):
            assert all(offset + size <= length for offset, size in places)
        inside_a_member = any(
            a - 512 < length < a + size for a, size in (*full.image, *full.caption)
        )
        if inside_a_member:
            assert found.problem, length


def test_a_zero_byte_tar_has_no_samples_and_says_why(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"")
    found = scan(tmp_path / "a.tar")
    assert found.keys == []
    assert found.problem == "empty file"


def test_an_empty_tar_has_no_samples(make_tar, tmp_path):
    assert scan(make_tar(tmp_path / "a.tar", [])) == ShardScan()


@pytest.mark.parametrize("garbage", [b"<html>no such page</html>" * 60, bytes(range(256)) * 8])
def test_a_file_that_is_no_tar_has_no_samples_and_says_so(tmp_path, garbage):
    (tmp_path / "a.tar").write_bytes(garbage)
    found = scan(tmp_path / "a.tar")
    assert found.keys == []
    assert found.problem


def test_a_header_damaged_in_the_middle_ends_the_scan_with_a_problem(make_tar, tmp_path):
    path = make_tar(tmp_path / "a.tar", [("1", FULL), ("2", FULL), ("3", FULL)])
    second = scan(path).image[1][0] - 512
    data = bytearray(path.read_bytes())
    data[second : second + 512] = b"\xaa" * 512
    path.write_bytes(data)
    found = scan(path)
    assert found.keys == ["1"]
    assert found.problem


def test_a_compressed_tar_is_not_unpacked(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w:gz") as tar:
        add(tar, "1.jpg")
    found = scan(tmp_path / "a.tar")
    assert found.keys == []
    assert found.problem
