"""Finding samples by what a person calls them."""

import numpy as np
import pytest

from selffilter.pool import uids
from selffilter.pool.failures import UnusableSample
from selffilter.pool.index import Pool, build_index
from selffilter.pool.lookup import captions_of, key_of, rows_of_key, rows_of_uids


@pytest.fixture
def two_sources(make_tar, picture, tmp_path):
    """Keys 0 to 3 in a/0.tar, in a/deep/1.tar and in b/0.tar; b states the uids of a/0.tar's."""
    for place, name in enumerate(("a/0.tar", "a/deep/1.tar", "b/0.tar")):
        samples = []
        for k in range(4):
            stated = b'{"uid": "%032x"}' % (k if place != 1 else 100 + k)
            members = {"png": picture(4 * place + k), "txt": b"%d" % k, "json": stated}
            samples.append((f"x/{k}" if place == 1 else str(k), members))
        make_tar(tmp_path / name, samples)
    specs = [f"a={tmp_path}/a/{{0,deep/1}}.tar", str(tmp_path / "b")]
    return Pool(tmp_path / "index", build_index(specs, tmp_path / "index"))


def test_a_uid_is_found_wherever_it_stands(two_sources):
    asked = uids.from_hex([f"{n:032x}" for n in (102, 2, 7)])
    seen = []
    found = rows_of_uids(two_sources, asked, lambda: seen.append(1))
    assert [rows.tolist() for rows in found] == [[6], [2, 10], []]
    assert len(seen) == two_sources.shards
    # Only the second half tells these apart from one that is there.
    assert [len(rows) for rows in rows_of_uids(two_sources, uids.from_hex([f"{2**40:032x}"]))] == [
        0
    ]


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("3", [3, 11]),
        ("a/0.tar/3", [3]),
        ("a/0/3", [3]),
        ("b/0.tar/3", [11]),
        ("0.tar/3", [3, 11]),
        ("0/3", [3, 11]),
        ("x/3", [7]),
        ("1/x/3", [7]),
        ("deep/1.tar/x/3", [7]),
        ("a/deep/1/x/3", [7]),
        ("deep/1.tar/3", []),
        ("a/0.tar/", []),
        ("", []),
        ("33", []),
    ],
)
def test_a_key_is_found_by_itself_or_behind_any_name_of_its_shard(two_sources, name, rows):
    assert rows_of_key(two_sources, name).tolist() == rows


def test_a_row_has_its_shard_and_key(two_sources):
    assert [key_of(two_sources, row) for row in (0, 7, 8)] == [(0, "0"), (1, "x/3"), (2, "0")]


def test_captions_are_those_that_training_meets(make_tar, picture, tmp_path):
    samples = [
        ("0", {"png": picture(), "txt": b"one\ntwo", "json": b'{"c": "three"}'}),
        ("1", {"png": picture(), "json": b"{}"}),
        ("2", {"png": picture(), "txt": b"x" * ((1 << 20) + 1)}),
    ]
    make_tar(tmp_path / "p" / "0.tar", samples)
    version = build_index([str(tmp_path / "p")], tmp_path / "i", caption_key="txt:lines,json:c")
    pool = Pool(tmp_path / "i", version)
    assert captions_of(pool, 0) == ["one", "two", "three"]
    for row in (1, 2):
        with pytest.raises(UnusableSample, match="caption_unreadable"):
            captions_of(pool, row)


def test_some_shards_alone_can_be_held_against_the_index(two_sources):
    location = two_sources.location(1)
    np.testing.assert_equal(list(two_sources.changed_shards()), [])
    with open(location, "ab") as tar:
        tar.write(bytes(512))
    assert list(two_sources.changed_shards(shards=[1])) == [(1, "changed")]
    assert list(two_sources.changed_shards(shards=[0, 2])) == []
    assert list(two_sources.changed_shards()) == [(1, "changed")]
