import numpy as np
import pytest

from selffilter.pool.base import Base
from selffilter.scoring.afresh import NEVER
from selffilter.scoring.table import score_table
from selffilter.tables import FACTS, read_table, scores_schema, write_table

NO_FAILURES = np.zeros(4, np.uint8)


@pytest.fixture
def base(tiny_pool):
    return Base(tiny_pool, 0)


def facts(rows, first=1):
    """Return facts that tell which row they are of: its number + `first`, in every column."""
    return {
        field.name: (np.array(rows) + first).astype(field.type.to_pandas_dtype()) for field in FACTS
    }


def table_of(base, rows, round_, earlier=None, **more):
    rows = np.array(rows)
    columns = {"cosine": np.full(len(rows), round_, np.float32)}
    return score_table(base, 0, rows, columns, NO_FAILURES[: len(rows)], round_, earlier, **more)


def test_facts_are_columns_of_their_own_types_behind_the_others(base, tmp_path):
    table = table_of(base, [0, 1, 2, 3], 0, facts=facts([0, 1, 2, 3]))
    assert table.schema == scores_schema(["cosine"])
    assert table.column_names[-3:] == FACTS.names
    write_table(tmp_path / "t.parquet", table)
    read = read_table(tmp_path / "t.parquet")
    assert read.schema == table.schema
    assert read["script"].to_pylist() == [1, 2, 3, 4]


def test_a_row_that_was_not_looked_at_has_none(base):
    table = table_of(base, [1, 3], 0, facts=facts([1, 3]))
    assert table["scored_round"].to_pylist() == [NEVER, 0, NEVER, 0]
    for name in FACTS.names:
        assert table[name].to_pylist() == [0, 2, 0, 4]


def test_a_row_that_keeps_its_score_keeps_its_facts(base):
    first = table_of(base, [0, 1, 2], 0, facts=facts([0, 1, 2]))
    second = table_of(base, [1, 3], 1, first, facts=facts([1, 3], first=100))
    assert second["scored_round"].to_pylist() == [0, 1, 0, 1]
    for name in FACTS.names:
        assert second[name].to_pylist() == [1, 101, 3, 103]


def test_a_table_of_an_older_run_may_go_before(base):
    older = table_of(base, [0, 1, 2, 3], 0)
    assert older.schema == scores_schema(["cosine"], facts=())
    newer = table_of(base, [2], 1, older, facts=facts([2]))
    assert newer["cosine"].to_pylist() == [0, 0, 1, 0]
    for name in FACTS.names:
        assert newer[name].to_pylist() == [0, 0, 3, 0]


def test_only_the_facts_that_were_gathered_are_columns(base):
    gathered = facts([0, 1, 2, 3])
    del gathered["image_hash"]
    earlier = table_of(base, [0, 1, 2, 3], 0, facts=facts([0, 1, 2, 3]))
    table = table_of(base, [0, 1, 2, 3], 1, earlier, facts=gathered)
    assert table.schema == scores_schema(["cosine"], facts=("caption_chars", "script"))
