"""Which watched groups a row belongs to, held against the groupings that a run is watched by."""

import json

import numpy as np
import pyarrow as pa
import pytest

from selffilter.asking.belonging import groups_of
from selffilter.pool.fields import OTHER, field_values, source_codes
from selffilter.pool.index import Pool, build_index
from selffilter.pool.script import Script
from selffilter.selecting.bias import UNKNOWN_NAME, selection_rates
from selffilter.selecting.facts import fact_groups
from selffilter.selecting.groups import Groups
from selffilter.tables import CLUSTERS, RATES, write_table

KINDS = ["cat", "dog", None, "cat", "eel", "cat", "dog", "fox", "cat"]
CHARS = np.array([5, 0, 300, 11, 25, 26, 10, 40, 40], np.uint32)
SCRIPTS = np.array([1, 0, 2, 1, 1, 1, 2, 12, 1], np.uint8)
CODES = np.array([1, 0, -1, 0, 0, 1, 2, 0, 0], np.int32)
SELECTED = np.array([1, 0, 1, 0, 1, 1, 0, 1, 1], bool)


@pytest.fixture
def pool(tmp_path, make_tar, picture):
    """Three shards of three rows, in two sources."""
    for shard in range(3):
        samples = [
            (f"{row}", {"png": picture(row), "txt": b"x", "json": json.dumps({"kind": KINDS[row]})
             .encode()})
            for row in range(3 * shard, 3 * shard + 3)
        ]  # fmt: skip
        make_tar(tmp_path / "ab"[shard > 1] / f"{shard}.tar", samples)
    index = tmp_path / "index"
    return Pool(index, build_index([str(tmp_path / "a"), str(tmp_path / "b")], index))


@pytest.fixture
def watched(pool, tmp_path):
    """The groupings whose rates lie in the folder; two values of the field have own groups."""
    groupings = [
        Groups("source", *source_codes(pool)),
        fact_groups(SCRIPTS, "script"),
        fact_groups(CHARS, "caption_chars"),
        Groups("cluster", CODES, ["0", "1", "2"]),
        Groups("json:kind", *field_values(pool, "kind", max_values=2)),
    ]
    np.save(tmp_path / CLUSTERS, CODES)
    tables = []
    for groups in groupings:
        table = selection_rates(groups, np.ones(9, bool), SELECTED).table()
        name = pa.array([groups.name] * table.num_rows)
        tables.append(table.add_column(0, "grouping", name))
    write_table(tmp_path / RATES, pa.concat_tables(tables))
    return groupings


def ask(pool, folder, rows):
    facts = [{"script": int(SCRIPTS[r]), "caption_chars": int(CHARS[r])} for r in rows]
    rows = np.array(rows)
    return groups_of(pool, folder, rows, pool.shard_of(rows), facts)


def test_every_row_has_the_group_of_each_grouping_with_its_rate(pool, watched, tmp_path):
    rows = [8, 0, 1, 2, 3, 4, 5, 6, 7]
    for row, found in zip(rows, ask(pool, tmp_path, rows), strict=True):
        assert [group.grouping for group in found] == [groups.name for groups in watched]
        for group, groups in zip(found, watched, strict=True):
            code = int(groups.codes_N[row])
            assert group.group == (groups.names[code] if code >= 0 else UNKNOWN_NAME)
            same = groups.codes_N == code
            assert group.base == same.sum()
            assert group.relative_rate == pytest.approx(SELECTED[same].mean() / SELECTED.mean())
            assert group.standard_error > 0
    kinds = [found[-1].group for found in ask(pool, tmp_path, range(9))]
    assert kinds == ["cat", "dog", UNKNOWN_NAME, "cat", OTHER, "cat", "dog", OTHER, "cat"]
    assert ask(pool, tmp_path, [7])[0][1].group == Script(12).name


def test_what_is_not_there_any_more_is_left_out(pool, watched, tmp_path):
    (tmp_path / CLUSTERS).unlink()
    for path in (tmp_path / "index" / "fields").glob("*/*.parquet"):
        path.unlink()
    rows = np.array([0, 4])
    found = groups_of(pool, tmp_path, rows, pool.shard_of(rows), [{}, {}])
    assert [[group.grouping for group in of_row] for of_row in found] == [["source"], ["source"]]


def test_a_grouping_of_one_group_says_nothing(pool, tmp_path):
    one = Groups("source", np.zeros(9, np.int32), ["all"])
    table = selection_rates(one, np.ones(9, bool), SELECTED).table()
    write_table(tmp_path / RATES, table.add_column(0, "grouping", pa.array(["source"])))
    assert ask(pool, tmp_path, [0, 1]) == [(), ()]


def test_where_nothing_was_watched_there_are_no_groups(pool, tmp_path):
    assert ask(pool, tmp_path, [3]) == [()]
