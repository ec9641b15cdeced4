import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selffilter.errors import UserError
from selffilter.evaluation.truth import Truth, area_under_curve
from selffilter.pool import uids

PAIRS = st.lists(
    st.tuples(st.sampled_from([-1.5, 0.0, 0.25, 0.5, 3.0]), st.booleans()), max_size=30
)


@given(PAIRS)
def test_the_area_is_the_share_of_pairs_in_the_right_order(pairs):
    scores = np.array([score for score, _ in pairs], np.float32)
    clean = np.array([positive for _, positive in pairs], bool)
    won = [(a > b) + (a == b) / 2 for a in scores[clean] for b in scores[~clean]]
    if won:
        assert area_under_curve(scores, clean) == pytest.approx(np.mean(won), abs=1e-12)
    else:
        assert math.isnan(area_under_curve(scores, clean))


def test_right_order_is_one_wrong_order_zero_and_no_order_a_half():
    scores, clean = np.arange(6, dtype=np.float32), np.arange(6) >= 3
    assert area_under_curve(scores, clean) == 1
    assert area_under_curve(-scores, clean) == 0
    assert area_under_curve(np.zeros(6, np.float32), clean) == 0.5


@pytest.fixture
def truth(tiny_pool, tmp_path):
    """Rows 0 … 5 are known, in another order; the even ones are clean. A stranger is there too."""
    texts = uids.to_hex(tiny_pool.uids_of(np.array([3, 0, 5, 1, 4, 2])))
    table = {"uid": [*texts, "f" * 32], "clean": [False, True, False, False, True, True, True]}
    pq.write_table(pa.table(table), tmp_path / "truth.parquet")
    return Truth(tmp_path / "truth.parquet", tiny_pool)


def test_precision_is_the_clean_share_of_the_rows_that_are_known(truth):
    assert truth.precision(np.array([0, 2, 4])) == 1
    assert truth.precision(np.array([0, 1, 2, 3])) == 0.5
    assert truth.precision(np.array([0, 1, 3, 6, 7])) == pytest.approx(1 / 3)
    assert math.isnan(truth.precision(np.array([6, 7])))
    assert math.isnan(truth.precision(np.array([], np.int64)))


def test_recall_is_the_share_of_the_clean_rows_among_some_that_were_taken(truth):
    base = np.arange(8)  # clean: 0, 2, 4; not known: 6, 7
    assert truth.recall(np.array([0, 1, 3, 6]), base) == pytest.approx(1 / 3)
    assert truth.recall(np.array([0, 2, 4, 5]), base) == 1
    assert truth.recall(np.array([0]), np.array([0, 1, 7])) == 1
    assert truth.recall(np.array([], np.int64), base) == 0
    assert math.isnan(truth.recall(np.array([1]), np.array([1, 3, 6])))


def test_auc_leaves_out_rows_that_are_unknown_or_not_scored(truth):
    rows = np.arange(8)
    scores = np.array([0.9, 0.1, np.nan, 0.5, 0.3, 0.3, 99, -99], np.float32)
    # Clean: .9 and .3; planted: .1, .5 and .3.
    assert truth.auc(rows, scores) == pytest.approx((3 + 1.5) / 6)
    assert truth.auc(rows[::-1], scores[::-1]) == truth.auc(rows, scores)


@pytest.mark.parametrize(
    "columns",
    [
        {"uid": ["0" * 32]},
        {"uid": ["0" * 31], "clean": [True]},
        {"uid": [7], "clean": [True]},
        {"uid": [None], "clean": [True]},
        {"uid": ["0" * 32], "clean": [None]},
        {"uid": ["0" * 32], "clean": ["yes"]},
    ],
)
def test_another_table_is_refused_by_name(tiny_pool, tmp_path, columns):
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"evaluate\.truth=.*t\.parquet is no Parquet of uid"):
        Truth(tmp_path / "t.parquet", tiny_pool)
    with pytest.raises(UserError, match=r"evaluate\.truth=.*missing"):
        Truth(tmp_path / "missing.parquet", tiny_pool)


def test_a_truth_of_another_pool_is_refused(tiny_pool, tmp_path):
    pq.write_table(pa.table({"uid": ["a" * 32], "clean": [True]}), tmp_path / "truth.parquet")
    with pytest.raises(UserError, match=r"none of its 1 uids is in the pool, which has 8 rows"):
        Truth(tmp_path / "truth.parquet", tiny_pool)
