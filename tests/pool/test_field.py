import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selffilter.errors import UserError
from selffilter.pool.field import MAX_CHARS, Field, parse_object


def value(field, about):
    return Field.parse(field).value(about)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ("en", "en"),
        ("  two\n words\t", "two words"),
        ("", None),
        (" \n", None),
        (None, None),
        (float("nan"), None),
        (True, "true"),
        (0, "0"),
        (1964, "1964"),
        (2.0, "2"),
        (0.1 + 0.2, "0.3"),
        (1e300, "1e+300"),
        (["b", "a", 1], '["b", "a", 1]'),
        ({"b": 1, "a": "é"}, '{"a": "é", "b": 1}'),
        ([], "[]"),
        (b"bytes \xff", "bytes \N{REPLACEMENT CHARACTER}"),
        ("naïve 東京", "naïve 東京"),
    ],
)
def test_a_value_is_a_short_text(found, text):
    assert value("a", {"a": found, "b": "other"}) == text


def test_control_and_direction_characters_are_left_out():
    assert value("a", {"a": "\x1b[31mred\x1b[0m\u202e\u200b\x00"}) == "[31mred[0m"
    assert value("a", {"a": "half \ud800 a pair"}) == "half a pair"
    assert value("a", {"a": "\u2028line\u00a0break\u3000"}) == "line break"
    assert value("a", {"a": "\x07" * 5000}) is None


def test_a_long_value_is_cut():
    assert value("a", {"a": "x" * 79 + " yz"}) == "x" * 79
    assert value("a", {"a": "x" * 500}) == "x" * MAX_CHARS
    assert len(value("a", {"a": list(range(100_000))})) == MAX_CHARS


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside),
)


@given(ANYTHING)
def test_every_value_is_printable_stripped_and_short(anything):
    found = value("a", {"a": anything})
    assert found is None or (found.isprintable() and found == found.strip())
    assert found is None or 0 < len(found) <= MAX_CHARS


def test_a_field_inside_of_another_has_dots():
    about = {"exif": {"Make": "Canon", "Lens": {"f": 2.8}}, "Make": "no"}
    assert value("exif.Make", about) == "Canon"
    assert value("exif.Lens.f", about) == "2.8"
    for missing in ("exif.Model", "exif.Make.x", "exif.Lens.f.x", "x.Make", "exif.Lens.f.x.y"):
        assert value(missing, about) is None


def test_a_name_may_have_dots_itself():
    assert value("a.b", {"a.b": 1, "a": {"b": 2}}) == "1"
    assert value("x.a.b", {"x": {"a.b": 3}}) == "3"


def test_an_object_that_is_written_as_text_is_looked_into():
    about = {"exif": json.dumps({"Make": "Canon"}), "bad": "{", "list": "[1]"}
    assert value("exif.Make", about) == "Canon"
    assert value("bad.Make", about) is None
    assert value("list.0", about) is None
    assert value("exif", about) == '{"Make": "Canon"}'


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://www.Example.com/a/b.jpg?x=1", "example.com"),
        ("http://cdn.example.co.uk:8080/", "cdn.example.co.uk"),
        ("//example.org/x", "example.org"),
        ("https://user:secret@example.org./x", "example.org"),
        ("https://[2001:db8::1]/x", "2001:db8::1"),
        ("http://[oops/x", None),
        ("example.org/x", None),
        ("", None),
        (7, None),
        (None, None),
        (["https://example.org"], None),
    ],
)
def test_of_a_url_the_host_can_be_asked_for(url, host):
    assert value("domain(url)", {"url": url}) == host
    assert value(" domain( at.url ) ", {"at": {"url": url}}) == host


@pytest.mark.parametrize("text", ["", " ", ".", "a.", ".a", "a..b", "domain()", "domain(a.)"])
def test_what_is_no_field_is_refused(text):
    with pytest.raises(UserError, match=r"select\.by=.* is no field of the samples' json"):
        Field.parse(text, "select.by")


def test_json_that_is_no_object_is_none():
    for data in (None, b"", b"[1]", b"7", b"{", b"\xff\xfe", b'{"a": ' + b"9" * 5000 + b"}"):
        assert parse_object(data) is None
    assert parse_object(b'{"a": 1}') == {"a": 1}
    assert parse_object('{"a": 1}') == {"a": 1}


def test_no_depth_of_nesting_breaks_it():
    for depth in range(900, 1010):
        about = parse_object(b'{"a":' + b"[" * depth + b"]" * depth + b"}")
        assert about is None or value("a", about) in (None, "[" * MAX_CHARS)
    assert parse_object(b"[" * 100_000) is None
