import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selffilter.errors import StoreGone, UserError
from selffilter.pool import fields
from selffilter.pool.captions import MAX_MEMBER_BYTES
from selffilter.pool.field import Field
from selffilter.pool.field_shards import FieldShards
from selffilter.pool.fields import OTHER, cut_counts, field_values, source_codes
from selffilter.pool.index import Pool, build_index
from selffilter.pool.row_reader import RowReader

LANGUAGES = [["en", "de", "en", None], ["en"], [None, "fr", "de"]]
"""Of three shards; None: the json does not tell."""


def jsons_of(values, name="language"):
    return [{} if value is None else {name: value} for value in values]


@pytest.fixture
def open_pool(make_tar, picture, tmp_path):
    """Return a pool of shards whose samples have these jsons; bytes stay as they are."""

    def opened(shards, folder="pool", **more):
        for number, jsons in enumerate(shards):
            samples = []
            for place, about in enumerate(jsons):
                members = {"png": b"an image", "txt": b"a caption"}
                if about is not None:
                    members["json"] = (
                        about if isinstance(about, bytes) else json.dumps(about).encode()
                    )
                samples.append((f"{number:05d}{place:04d}", members))
            make_tar(tmp_path / folder / f"{number:05d}.tar", samples)
        index = tmp_path / f"index-{folder}"
        return Pool(index, build_index([str(tmp_path / folder)], index, **more))

    return opened


@pytest.fixture
def pool(open_pool):
    return open_pool([jsons_of(values) for values in LANGUAGES])


def values_of(pool, field, **more):
    codes_N, names = field_values(pool, field, **more)
    assert codes_N.dtype == np.int32
    assert codes_N.shape == (pool.rows,)
    assert len(set(names)) == len(names)
    return [None if code < 0 else names[code] for code in codes_N.tolist()]


@pytest.fixture
def reads(monkeypatch):
    """Return what is read of jsons from now on: how many rows at a time."""
    found = []
    read = RowReader.read

    def counted(self, rows_N, members=("image", "caption")):
        if "json" in members:
            found.append(len(rows_N))
        return read(self, rows_N, members)

    monkeypatch.setattr(RowReader, "read", counted)
    return found


# --- codes ----------------------------------------------------------------------------------------


def test_rows_have_the_code_of_their_value_the_most_frequent_first(pool):
    codes_N, names = field_values(pool, "language")
    assert names == ["en", "de", "fr"]
    assert codes_N.tolist() == [0, 1, 0, -1, 0, -1, 2, 1]


def test_beyond_the_most_frequent_values_all_are_one_group(pool):
    assert values_of(pool, "language", max_values=1) == [
        "en", OTHER, "en", None, "en", None, OTHER, OTHER,
    ]  # fmt: skip
    assert field_values(pool, "language", max_values=2)[1] == ["en", "de", OTHER]
    assert field_values(pool, "language", max_values=3)[1] == ["en", "de", "fr"]


def test_equally_frequent_values_go_by_their_text(open_pool):
    pool = open_pool([jsons_of(["d", "b"]), jsons_of(["c", "a", "b"])])
    assert field_values(pool, "language")[1] == ["b", "a", "c", "d"]
    assert field_values(pool, "language", max_values=2)[1] == ["b", "a", OTHER]


def test_a_value_that_is_called_like_the_rest_belongs_to_it(open_pool):
    pool = open_pool([jsons_of([OTHER, "a", OTHER, "b"])])
    assert values_of(pool, "language") == [OTHER, "a", OTHER, "b"]
    assert field_values(pool, "language")[1] == ["a", "b", OTHER]
    assert values_of(pool, "language", max_values=1) == [OTHER, "a", OTHER, OTHER]


def test_of_too_many_values_to_count_the_frequent_ones_are_found(open_pool, monkeypatch):
    monkeypatch.setattr(fields, "_CANDIDATES", 4)
    monkeypatch.setattr(fields, "_ROWS_AT_ONCE", 7)
    rare = [f"rare {number}" for number in range(40)]
    shards = [[*rare[i::4], *["often"] * 9, *["seldom"] * 7] for i in range(4)]
    pool = open_pool([jsons_of(values) for values in shards])
    found = values_of(pool, "language", max_values=2)
    assert found == [
        value if value in ("often", "seldom") else OTHER for values in shards for value in values
    ]


@given(st.dictionaries(st.text(max_size=2), st.integers(1, 9), max_size=12), st.integers(1, 6))
def test_cutting_counts_takes_the_same_off_all_that_stay(counts, most):
    cut = cut_counts(counts, most)
    assert len(cut) <= most
    off = {counts[value] - count for value, count in cut.items()}
    assert len(off) <= 1
    # Nothing is lost that has more than a share of 1 / (most + 1) of all.
    kept = {value for value, n in counts.items() if n * (most + 1) > sum(counts.values())}
    assert kept <= set(cut)
    if len(counts) <= most:
        assert cut == counts


def test_every_value_of_a_large_shard_is_found(open_pool, monkeypatch):
    monkeypatch.setattr("selffilter.pool.field_shards._READ_BYTES", 5000)
    values = [f"value {number % 7}" for number in range(50)]
    assert values_of(open_pool([jsons_of(values)]), "language") == values


def test_sources_are_groups_as_well(make_tar, tmp_path):
    for name, shards in (("b", 2), ("a", 1)):
        for shard in range(shards):
            samples = [(str(i), {"png": b"i", "txt": b"t"}) for i in range(shard + 2)]
            make_tar(tmp_path / name / f"{shard}.tar", samples)
    specs = [f"{name}={tmp_path / name}" for name in ("b", "a")]
    pool = Pool(tmp_path / "i", build_index(specs, tmp_path / "i"))
    codes_N, names = source_codes(pool)
    assert names == ["b", "a"]
    assert codes_N.dtype == np.int32
    assert codes_N.tolist() == [0] * 5 + [1] * 2


# --- jsons ----------------------------------------------------------------------------------------


def test_rows_without_a_value_are_counted_by_reason(open_pool):
    large = json.dumps({"language": "en", "x": "x" * MAX_MEMBER_BYTES}).encode()
    jsons = [{"language": "en"}, None, b"{", b"[1]", large, {}, {"language": " "}]
    said = []
    assert values_of(open_pool([jsons]), "language", say=said.append) == ["en"] + [None] * 6
    assert said == [
        "language: 6 of 7 rows have no value "
        "(1 json_too_large, 2 json_unreadable, 1 no_json, 2 no_value)"
    ]


def test_it_is_found_where_captions_stand_in_the_json_too(open_pool):
    jsons = [{"caption": "a", "language": "en"}, {"caption": "b"}]
    pool = open_pool([jsons], caption_key="json:caption")
    assert values_of(pool, "language") == ["en", None]


def test_fields_inside_of_others_and_hosts(open_pool):
    jsons = [
        {"url": "https://www.a.org/1", "exif": {"Make": "Canon"}},
        {"url": "http://b.org/2", "exif": json.dumps({"Make": "Nikon"})},
        {"url": "no url", "exif": "{}"},
    ]
    pool = open_pool([jsons])
    assert values_of(pool, "domain(url)") == ["a.org", "b.org", None]
    assert values_of(pool, "exif.Make") == ["Canon", "Nikon", None]


def test_a_field_that_no_row_has_is_refused_with_those_that_there_are(pool, open_pool, tmp_path):
    said = []
    with pytest.raises(UserError, match=r"select.by='langauge': not a single row.*'language'"):
        field_values(pool, "langauge", asked_as="select.by", say=said.append)
    assert said == ["langauge: no row of pool/00000.tar has it. The first samples have 'language'."]
    bare = open_pool([[None]], "bare")
    with pytest.raises(UserError, match="The first samples have no json"):
        field_values(bare, "language")


# --- img2dataset's metadata -----------------------------------------------------------------------


def write_parquet(tmp_path, shard, keys, **columns):
    table = pa.table({"key": keys, **columns})
    pq.write_table(table, tmp_path / "pool" / f"{shard:05d}.parquet")


def test_metadata_beside_a_shard_is_read_instead_of_the_jsons(pool, tmp_path, reads):
    keys = [f"00000{place:04d}" for place in (9, 3, 2, 1, 0)]  # of failures too, in any order
    write_parquet(tmp_path, 0, keys, language=["xx", "it", None, "es", "es"])
    found = values_of(pool, "language")
    assert found == ["es", "es", None, "it", "en", None, "fr", "de"]
    assert sum(reads) == 4  # of the other shards alone


@pytest.mark.parametrize(
    "columns",
    [
        {"key": ["000000000", "000000001"], "language": ["es", "es"]},
        {"key": [f"00000{place:04d}" for place in range(4)], "text": ["es"] * 4},
        {"name": [f"00000{place:04d}" for place in range(4)], "language": ["es"] * 4},
        {"key": [0, 1, 2, 3], "language": ["es"] * 4},
        b"PAR1 is how it begins",
        b"",
    ],
    ids=["not every key", "no such column", "no key", "other keys", "broken", "empty"],
)
def test_metadata_that_does_not_tell_of_every_sample_is_left_aside(pool, tmp_path, columns):
    path = tmp_path / "pool" / "00000.parquet"
    if isinstance(columns, bytes):
        path.write_bytes(columns)
    else:
        pq.write_table(pa.table(columns), path)
    assert values_of(pool, "language") == ["en", "de", "en", None, "en", None, "fr", "de"]


def test_metadata_and_jsons_give_the_same_text(open_pool, tmp_path):
    values = {
        "flag": [True, False, None],
        "width": [1, 2, 1],
        "ratio": [0.5, 2.0, None],
        "tags": [["a", "b"], [], None],
        "url": ["https://www.a.org/x", "https://b.org/y", None],
        "exif": ['{"Make": "Canon"}', "{}", None],
        "box": [{"x": 1, "y": 2}, {"x": 3, "y": 4}, None],
    }
    jsons = [{name: column[row] for name, column in values.items()} for row in range(3)]
    plain, described = open_pool([jsons], "plain"), open_pool([jsons])
    write_parquet(tmp_path, 0, [f"00000{row:04d}" for row in range(3)], **values)
    for field in (*values, "domain(url)", "exif.Make", "box.y"):
        expected = values_of(plain, field)
        assert values_of(described, field) == expected
        assert any(expected)


# --- what is kept ---------------------------------------------------------------------------------


def test_what_was_read_is_kept_and_not_read_again(pool, reads):
    expected = values_of(pool, "language")
    assert sum(reads) == 8
    reads.clear()
    assert values_of(pool, "language") == expected
    assert reads == []


def test_another_version_reads_what_is_new_alone(pool, open_pool, reads):
    values_of(pool, "language")
    reads.clear()
    larger = open_pool([jsons_of(values) for values in [*LANGUAGES, ["en", "it"]]][3:], "more")
    assert larger.version != pool.version
    specs = [str(pool.index_dir.parent / folder) for folder in ("pool", "more")]
    both = Pool(pool.index_dir, build_index(specs, pool.index_dir))
    found = values_of(both, "language")
    assert found == ["en", "de", "en", None, "en", None, "fr", "de", "en", "it"]
    assert reads == [2]


def test_stopped_it_goes_on(pool, reads):
    class Stop(Exception):
        pass

    asked = []

    def should_go_on():
        asked.append(None)
        if len(asked) > 4:
            raise Stop

    with pytest.raises(Stop):
        field_values(pool, "language", should_go_on=should_go_on)
    before = sum(reads)
    assert 0 < before < 8
    assert values_of(pool, "language") == ["en", "de", "en", None, "en", None, "fr", "de"]
    assert sum(reads) == 8


def test_fields_do_not_share_files(pool):
    names = ("a.b", "a-b", "a/b", "~/a", "domain(a)", "x" * 300, "é", "A", "a")
    paths = {FieldShards(pool, Field.parse(name)).path(0) for name in names}
    assert len({str(path).lower() for path in paths}) == len(names)
    assert all(path.resolve().parent.parent == pool.index_dir / "fields" for path in paths)


def test_progress_is_told_in_rows(pool):
    from contextlib import contextmanager

    shown = []

    class Told:
        def advance(self, count, note=""):
            shown.append(count)

    @contextmanager
    def bar(total):
        shown.append(("of", total))
        yield Told()

    field_values(pool, "language", bar=bar)
    assert shown == [("of", 8), 4, 1, 3]
    field_values(pool, "language", bar=bar)
    assert len(shown) == 4


def test_a_shard_that_is_gone_is_named(pool, tmp_path):
    (tmp_path / "pool" / "00001.tar").unlink()
    with pytest.raises(StoreGone, match=r"00001\.tar"):
        field_values(pool, "language")
