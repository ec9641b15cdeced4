import os
import time

import numpy as np
import pytest

from selffilter.errors import UserError
from selffilter.pool import packs as packs_module
from selffilter.pool.packs import Packs, packs_at

MEMBERS = ("image", "caption")


def rows(*numbers):
    return np.array(numbers, dtype=np.int64)


@pytest.fixture
def packs(tmp_path):
    return Packs(tmp_path / "packs", 3000)


def write(packs, name, places=(1, 5), size=100):
    packs.write(name, rows(*places), MEMBERS, [(bytes([p]) * size, None) for p in places])


def test_a_pack_says_what_it_holds_and_gives_it_back(packs):
    write(packs, "a")
    pack = packs.open("a")
    assert pack.places(rows(0, 1, 2, 5, 9)).tolist() == [-1, 0, -1, 1, -1]
    assert pack.read(1, "image") == bytes([5]) * 100
    assert pack.read(1, "caption") is None
    assert pack.holds(["image"])
    assert not pack.holds(["json"])
    assert packs.open("b") is None


def test_a_pack_that_is_replaced_is_seen_and_the_old_one_still_serves(packs):
    write(packs, "a")
    old = packs.open("a")
    write(packs, "a", places=(7,))
    assert packs.open("a").places(rows(1, 7)).tolist() == [-1, 0]
    assert old.read(0, "image") == bytes([1]) * 100


@pytest.mark.parametrize("content", [b"", b"ARROW1\0\0 and then nothing", os.urandom(500)])
def test_a_broken_pack_is_none(packs, content):
    write(packs, "a")
    (packs.folder / "a.arrow").write_bytes(content)
    assert packs.open("a") is None


def test_a_pack_from_before_the_machine_went_down_is_none(packs, monkeypatch):
    monkeypatch.setattr(packs_module, "_boot", lambda: "yesterday")
    write(packs, "a")
    monkeypatch.undo()
    assert packs.open("a") is None
    write(packs, "a")
    assert packs.open("a") is not None


def test_an_empty_pack_is_a_pack(packs):
    packs.write("a", rows(), MEMBERS, [])
    assert packs.open("a").places(rows(0)).tolist() == [-1]


def test_room_is_made_of_what_was_not_wanted_for_longest_and_not_of_what_is_kept(packs):
    for age, name in enumerate(("new", "middle", "old")):
        write(packs, name)
        os.utime(packs.folder / f"{name}.arrow", (1e9 - age, 1e9 - age))
    size = (packs.folder / "old.arrow").stat().st_size
    packs.max_bytes = 3 * size
    assert packs.make_room(size, keep={"old"})
    assert sorted(p.stem for p in packs.folder.iterdir()) == ["new", "old"]
    packs.used("old")
    assert packs.make_room(2 * size, keep=set())
    assert [p.stem for p in packs.folder.iterdir()] == ["old"]
    assert not packs.make_room(3 * size, keep={"old"})
    assert packs.open("old") is not None


def test_what_a_killed_writer_left_is_cleared_away_after_a_while(packs):
    write(packs, "a")
    left = packs.folder / ".b.arrow.123.0abc.tmp"
    left.write_bytes(b"half")
    packs.make_room(0, keep=set())
    assert left.exists()
    os.utime(left, (time.time() - 7200,) * 2)
    packs.make_room(0, keep=set())
    assert not left.exists()


def test_a_folder_that_others_can_write_to_is_refused(tmp_path):
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    assert packs_at(str(mine), 2).max_bytes == 2_000_000_000
    assert mine.stat().st_mode & 0o777 == 0o700
    theirs.mkdir()
    theirs.chmod(0o777)
    with pytest.raises(UserError, match=r"theirs .*cache_dir"):
        packs_at(str(theirs), 1)
