"""Names and texts that strangers chose: nothing in them is run, obeyed, or shown as it is."""

import io
import sys

import pytest
from rich.console import Console

from selffilter.cli import main
from selffilter.errors import UserError
from selffilter.plain_text import visible
from selffilter.pool.index import Pool, build_index
from selffilter.pool.row_reader import RowReader
from selffilter.pool.sources import list_shards
from selffilter.tracking.console import Screen

NAMES = (
    "pipe:touch pwned; cat x.tar",
    "$(touch pwned).tar",
    "`touch pwned`.tar",
    ";touch pwned;.tar",
    "|touch pwned.tar",
    "-rf.tar",
    "{a,b}.tar",
    "[a-z]*.tar",
    "http:x.tar",
    "\x1b]0;title\x07\x1b[2J.tar",
    "line\nbroken   all is well.tar",
    "\u202egnp.tar",
)


@pytest.fixture
def named(tmp_path, make_tar, picture, monkeypatch):
    """A folder with shards of such names, in which we stand."""
    (tmp_path / "pool").mkdir()
    for number, name in enumerate(NAMES):
        make_tar(tmp_path / "pool" / name, [(f"{number}", {"png": picture(number), "txt": b"a"})])
    monkeypatch.chdir(tmp_path / "pool")
    return tmp_path / "pool"


@pytest.mark.parametrize("spec", [".", "*.tar", "./*.tar"])
def test_a_shards_name_is_a_path_and_nothing_else(spec, named, tmp_path):
    specs = [spec]
    assert [shard.relative for shard in list_shards(specs)] == sorted(NAMES)
    pool = Pool(tmp_path / "index", build_index(specs, tmp_path / "index"))
    assert pool.problems() == []
    reader = RowReader(pool)
    assert [reader.member(row, "caption") for row in range(pool.rows)] == [b"a"] * len(NAMES)
    assert sorted(path.name for path in named.iterdir()) == sorted(NAMES)


def test_a_name_that_no_table_can_hold_is_refused_by_what_it_is(tmp_path, make_tar):
    make_tar(tmp_path / "bad\udcff.tar", [("0", {"png": b"x", "txt": b"a"})])
    with pytest.raises(UserError, match=r"bad\\udcff\.tar.* is not UTF-8.*rename it"):
        list_shards([str(tmp_path)])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain — 鍵 “quoted” …", "plain — 鍵 “quoted” …"),
        ("two\nlines\tand\u00a0a blank", "two\nlines\tand\u00a0a blank"),
        ("\x1b[2J\x07\r\x9b", "\\x1b[2J\\x07\\r\\x9b"),
        ("\u202egnp", "\\u202egnp"),
        ("half \udcff", "half \\udcff"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text, shown):
    assert visible(text) == shown
    out = io.StringIO()
    Screen(console=Console(file=out, width=40, force_terminal=True)).say(text)
    assert out.getvalue().replace("\t", " ").split() == shown.split()


def call(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["selffilter", *map(str, words)])
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = stop.code or 0
    return code, capsys.readouterr()


def test_commands_show_names_of_shards_without_doing_what_they_say(
    named, tmp_path, monkeypatch, capsys
):
    (named / NAMES[9]).write_bytes(b"no tar at all " * 100)
    where = ("--index-dir", tmp_path / "index")
    code, said = call(monkeypatch, capsys, "pool", "index", ".", *where)
    assert code == 0
    assert "\\x1b]0;title\\x07\\x1b[2J" in said.out + said.err
    code, more = call(monkeypatch, capsys, "pool", "verify", ".", *where)
    (named / NAMES[9]).unlink()
    code, gone = call(monkeypatch, capsys, "pool", "verify", *where)
    for one in (said, more, gone):
        assert not set(one.out + one.err) & set("\x1b\x07\u202e")
