import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selffilter.config import SelectConfig
from selffilter.evaluation.truth import Truth
from selffilter.pool import uids
from selffilter.selecting.choice import Candidates, choose
from selffilter.stages.against_truth import against_truth
from selffilter.tables import CALIBRATION, read_table

SCORES = np.array([0.1, 0.11, 0.12, 0.13, 0.9, 0.91, 0.92, 0.93], np.float32)


@pytest.fixture
def truth_of(tiny_pool, tmp_path):
    def make(labels: dict[int, bool]):
        texts = uids.to_hex(tiny_pool.uids_of(np.array(list(labels), np.int64)))
        table = pa.table({"uid": texts, "clean": list(labels.values())})
        pq.write_table(table, tmp_path / "truth.parquet")
        return Truth(tmp_path / "truth.parquet", tiny_pool)

    return make


@pytest.fixture
def held(tiny_pool, tmp_path):
    """Hold a selection of the better half of all rows but the first against a truth."""

    def hold(truth):
        base_N = np.arange(8) > 0
        settings = SelectConfig(keep_fraction=[4 / 7], diverse_fraction=[0.0])
        choice = choose(Candidates(SCORES, base_N, tiny_pool.uids_of), settings, seed=0, round_=0)
        return against_truth(truth, base_N, SCORES, choice, tmp_path)

    return hold


def test_a_selection_is_held_against_the_truth(truth_of, held, tmp_path):
    found = held(truth_of({0: True, 1: True, 2: False, 3: False, 4: True, 5: True, 6: False}))
    assert found["precision"] == pytest.approx(2 / 3)  # of rows 4 to 7, as far as it is known
    assert found["recall"] == pytest.approx(2 / 3)  # row 1 is clean and left out; 0 is no candidate
    assert (tmp_path / CALIBRATION).exists() == ("expected_calibration_error" in found)
    if (tmp_path / CALIBRATION).exists():
        assert sum(read_table(tmp_path / CALIBRATION)["rows"].to_pylist()) == 6


def test_a_truth_of_no_candidate_says_nothing(truth_of, held, tmp_path):
    found = held(truth_of({0: True}))
    assert np.isnan(found["precision"]) and np.isnan(found["recall"])
    assert "expected_calibration_error" not in found
    assert not (tmp_path / CALIBRATION).exists()
