import json

import pytest

from selffilter.errors import UserError
from selffilter.pool.captions import (
    MAX_CAPTION_BYTES,
    MAX_CAPTIONS,
    MAX_MEMBER_BYTES,
    CaptionKey,
    Part,
    decode_captions,
)
from selffilter.pool.failures import Failure, UnusableSample


def captions(key, member=None, about=None):
    about = about if about is None or isinstance(about, bytes) else json.dumps(about).encode()
    return decode_captions(CaptionKey.parse(key), member, about)


def verdict(key, member=None, about=None):
    with pytest.raises(UnusableSample) as caught:
        captions(key, member, about)
    return caught.value.failure


@pytest.mark.parametrize(
    ("text", "parts", "member", "fields"),
    [
        ("txt", [Part("txt")], "txt", ()),
        ("txt:lines", [Part("txt", lines=True)], "txt", ()),
        ("json:caption", [Part("json", field="caption")], None, ("caption",)),
        ("json:alt text", [Part("json", field="alt text")], None, ("alt text",)),
        ("json:a:b", [Part("json", field="a:b")], None, ("a:b",)),
        ("json:lines", [Part("json", field="lines")], None, ("lines",)),
        ("JSON:Caption", [Part("json", field="Caption")], None, ("Caption",)),
        ("en.TXT", [Part("en.txt")], "en.txt", ()),
        (
            " txt , json:alts,json:title ",
            [Part("txt"), Part("json", field="alts"), Part("json", field="title")],
            "txt",
            ("alts", "title"),
        ),
        ("json:a,cap:lines", [Part("json", field="a"), Part("cap", lines=True)], "cap", ("a",)),
    ],
)
def test_a_caption_key_is_parsed(text, parts, member, fields):
    key = CaptionKey.parse(text)
    assert (key.text, list(key.parts)) == (text, parts)
    assert (key.member, key.fields, key.uses_json) == (member, fields, bool(fields))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'' is no place for captions; write EXTENSION, EXTENSION:lines or json:FIELD"),
        ("txt,", "'' is no place"),
        (".txt", "'.txt' is no place"),
        ("a/txt", "'a/txt' is no place"),
        ("json", "which field of the json"),
        ("json:", "which field of the json"),
        ("txt:", "what follows txt: can only be 'lines'"),
        ("meta:caption", "A field is read from the json member alone"),
        ("txt,cap", r"names 2 members \(cap, txt\)"),
        ("txt,txt:lines", "names a place twice"),
        ("json:a,json:a", "names a place twice"),
        ("png", "'png' is where images stand"),
        ("txt,JPG", "'JPG' is where images stand"),
    ],
)
def test_what_is_no_caption_key_is_refused(text, says):
    with pytest.raises(UserError, match=says) as caught:
        CaptionKey.parse(text)
    assert str(caught.value).startswith(f"pool.caption_key={text!r}")
    with pytest.raises(UserError, match=r"^--caption-key="):
        CaptionKey.parse(text, "--caption-key")


def test_the_text_of_a_member_is_one_caption_whatever_its_lines():
    assert captions("txt", " ein Käse,\n干酪\n".encode()) == ["ein Käse,\n干酪"]


def test_each_line_that_is_not_blank_is_a_caption():
    text = "a cat\r\n\n  \t\na dog \nthe last without an end"
    assert captions("txt:lines", text.encode()) == ["a cat", "a dog", "the last without an end"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a cat", ["a cat"]),
        (["a cat", "a dog"], ["a cat", "a dog"]),
        (["", "a dog", " ", None, 3, ["no"]], ["a dog"]),
    ],
)
def test_a_field_of_the_json_is_a_string_or_a_list_of_strings(value, expected):
    assert captions("json:alts", None, {"alts": value, "caption": "other"}) == expected


def test_captions_come_in_the_order_of_the_parts():
    about = {"alts": ["b", "c"], "title": "d"}
    assert captions("txt,json:alts,json:title", b"a", about) == ["a", "b", "c", "d"]
    assert captions("json:title,txt,json:alts", b"a", about) == ["d", "a", "b", "c"]


def test_what_the_key_does_not_name_is_not_looked_at():
    assert captions("txt", b"a", b"\xff not json") == ["a"]
    assert captions("json:title", b"\xff", {"title": "b"}) == ["b"]


@pytest.mark.parametrize(
    ("member", "about", "expected"),
    [
        (b"\xff", {"title": "b"}, ["b"]),
        (b" ", {"title": "b"}, ["b"]),
        (None, {"title": "b"}, ["b"]),
        (b"a", {"title": 3}, ["a"]),
        (b"a", {}, ["a"]),
        (b"a", b"not json", ["a"]),
        (b"a", {"title": "\ud800"}, ["a"]),
        (b"a", None, ["a"]),
    ],
)
def test_one_part_that_gives_a_caption_is_enough(member, about, expected):
    assert captions("txt,json:title", member, about) == expected


@pytest.mark.parametrize("data", [b"", b"  \n\t", "\u3000".encode()])
@pytest.mark.parametrize("key", ["txt", "txt:lines"])
def test_a_blank_caption_is_empty(key, data):
    assert verdict(key, data) == Failure.caption_empty


@pytest.mark.parametrize("value", ["", "  ", [], ["", " "]])
def test_a_blank_field_is_empty(value):
    assert verdict("json:caption", None, {"caption": value}) == Failure.caption_empty


@pytest.mark.parametrize(
    ("key", "member", "about"),
    [
        ("txt", b"\xff\xfe", None),
        ("json:caption", None, b"not json"),
        ("json:caption", None, b"\xff"),
        ("json:caption", None, b"{}"),
        ("json:caption", None, b'["caption"]'),
        ("json:caption", None, b'"caption"'),
        ("json:caption", None, b'{"caption": 3}'),
        ("json:caption", None, b'{"caption": null}'),
        ("json:caption", None, b'{"caption": {"en": "a cat"}}'),
        ("json:caption", None, b'{"caption": [null, 3]}'),
        ("json:caption", None, b'{"caption": "\\ud800 half a character"}'),
        ("json:caption", None, b'{"caption": ' + b"9" * 10_000 + b"}"),
        ("json:caption", None, b"[" * 100_000),
        ("txt", b"a " * (MAX_MEMBER_BYTES // 2 + 1), None),
        ("txt,json:caption", b" ", b"{}"),
    ],
)
def test_what_cannot_be_read_is_unreadable_if_nothing_else_can(key, member, about):
    assert verdict(key, member, about) == Failure.caption_unreadable


@pytest.mark.parametrize("key", ["txt", "txt:lines", "json:a", "txt,json:a"])
def test_a_row_without_the_members_has_no_caption(key):
    assert verdict(key) == Failure.missing_caption


def test_of_too_many_captions_the_first_count():
    lines = [f"caption {i}" for i in range(MAX_CAPTIONS + 10)]
    assert captions("txt:lines", "\n".join(lines).encode()) == lines[:MAX_CAPTIONS]
    assert captions("json:a,txt", b"other", {"a": lines}) == lines[:MAX_CAPTIONS]
    assert captions("txt,json:a", b"other", {"a": lines})[:2] == ["other", "caption 0"]


def test_a_caption_that_is_too_long_is_cut_between_characters():
    (caption,) = captions("txt", "干".encode() * MAX_CAPTION_BYTES)
    assert caption == "干" * (MAX_CAPTION_BYTES // 3)
    assert captions("txt", b"a" * MAX_CAPTION_BYTES) == ["a" * MAX_CAPTION_BYTES]
