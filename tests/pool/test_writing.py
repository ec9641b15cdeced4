import json
import tarfile

import pytest

from selffilter.pool.captions import CaptionKey, decode_captions
from selffilter.pool.tar_scan import scan_tar
from selffilter.pool.writing import image_extension, sample_members, write_tar


def members_of(path):
    with tarfile.open(path) as tar:
        return [(m.name, tar.extractfile(m).read()) for m in tar]


def test_members_stand_sorted_under_one_owner_mode_and_time(tmp_path):
    samples = [("b", {"txt": b"1", "json": b"{}", "png": b"2"}), ("a", {"webp": b"", "txt": b"3"})]
    write_tar(tmp_path / "x" / "a.tar", samples)
    names = ["b.json", "b.png", "b.txt", "a.txt", "a.webp"]
    assert [name for name, _ in members_of(tmp_path / "x" / "a.tar")] == names
    with tarfile.open(tmp_path / "x" / "a.tar") as tar:
        about = {(m.mtime, m.mode, m.uid, m.gid, m.uname, m.gname, m.type) for m in tar}
    assert about == {(0, 0o644, 0, 0, "", "", tarfile.REGTYPE)}


def test_the_same_samples_give_the_same_bytes_and_are_taken_one_at_a_time(tmp_path):
    def samples():
        for i in range(20):
            yield f"{i}", {"txt": b"x" * i}

    write_tar(tmp_path / "a.tar", samples())
    write_tar(tmp_path / "b.tar", list(samples()))
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


@pytest.mark.parametrize("key", ["k" * 300, "鍵/ключ", "ordinary"])
def test_any_key_can_be_written_and_is_found_again(key, tmp_path):
    write_tar(tmp_path / "a.tar", [(key, {"txt": b"1", "png": b"2"})])
    assert scan_tar(str(tmp_path / "a.tar"), "s", "a.tar", "txt").keys == [key]


def test_a_tar_that_fails_half_way_leaves_nothing(tmp_path):
    def samples():
        yield "a", {"txt": b"1"}
        raise OSError("the source is gone")

    with pytest.raises(OSError, match="gone"):
        write_tar(tmp_path / "pool" / "a.tar", samples())
    assert list((tmp_path / "pool").iterdir()) == []


@pytest.mark.parametrize(
    "caption_key",
    ["txt", "caption", "cap:lines", "json:caption", "json:alt", "json:alt,txt", "txt,json:alt"],
)
def test_the_caption_stands_where_a_pool_with_that_caption_key_looks(caption_key):
    about = {"uid": "u", "caption": "old", "alt": ["old", "older"]}
    members = sample_members(b"\x89PNG", about, "naïve", caption_key)
    key = CaptionKey.parse(caption_key)
    member = members.get(key.member)
    assert decode_captions(key, member, members["json"]) == ["naïve"]
    # A second caption beside it is the same one; there is no other.
    assert json.loads(members["json"])["caption"] == "naïve"
    assert "png" in members and len(members) == 2 + (key.parts[0].field is None)


def test_a_caption_of_several_lines_is_one_line_where_each_is_a_caption():
    members = sample_members(b"", {}, "a cat\non a mat", "txt:lines")
    assert members["txt"] == b"a cat on a mat"
    assert sample_members(b"", {}, "a cat\non a mat", "txt")["txt"] == b"a cat\non a mat"


def test_a_json_without_a_caption_gets_none():
    members = sample_members(b"", {"uid": "u", "b": 1, "a": 2}, "x")
    assert members["json"] == b'{"a": 2, "b": 1, "uid": "u"}'


@pytest.mark.parametrize(
    ("form", "extension"), [("JPEG", "jpg"), ("PNG", "png"), ("GIF", "gif"), ("WEBP", "webp")]
)
def test_the_extension_goes_by_the_bytes(picture, form, extension):
    assert image_extension(picture(0, form=form)) == extension


@pytest.mark.parametrize("data", [b"", b"no image", b"RIFF1234WAVE"])
def test_what_is_no_image_is_called_jpg(data):
    assert image_extension(data) == "jpg"
