from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from selffilter.config import load_config
from selffilter.planning import RoundSteps
from selffilter.selecting.choice import Candidates, choose
from selffilter.selecting.on_disk import write_selection
from selffilter.stages.showing import FinishedRound
from selffilter.store import RunStore
from selffilter.tables import REMOVED, scores_schema, shard_file, write_table
from selffilter.tracking.console import Screen

SCORES = np.array([3, 1, 4, 1.5, 5, 9, 2, 6], np.float32)
REMOVED_ROWS = [1, 5]


@pytest.fixture
def finished(tiny_pool, tmp_path):
    """A first round whose lowest and highest rows were removed before selecting."""
    config = load_config(
        None,
        [f"pool.shards=[{tmp_path / 'pool'}]", "score.signal=cosine", "select.keep_fraction=0.5"],
    )
    store = RunStore(tmp_path / "run")
    for shard in range(tiny_pool.shards):
        rows = tiny_pool.shard_rows(shard)
        columns = {
            "row": rows, "uid": [b"u" * 16] * len(rows), "cosine": SCORES[rows],
            "failure": [0] * len(rows), "probe": [False] * len(rows),
            "outside": [False] * len(rows), "scored_round": [0] * len(rows),
        }  # fmt: skip
        table = pa.table(columns, schema=scores_schema(["cosine"], facts=()))
        write_table(shard_file(store.stage(0, "score"), shard), table)
    base_N = ~np.isin(np.arange(8), REMOVED_ROWS)
    choice = choose(Candidates(SCORES, base_N, tiny_pool.uids_of), config.select, seed=0, round_=0)
    folder = store.stage(0, "select")
    write_selection(folder, choice, tiny_pool, 0)
    write_table(folder / REMOVED, pa.table({"row": pa.array(REMOVED_ROWS, pa.int64())}))
    context = SimpleNamespace(config=config, store=store, pool=tiny_pool, screen=Screen(quiet=True))
    return FinishedRound(context, RoundSteps(0, 0, 10), {})


def test_rows_that_were_removed_are_in_no_table_and_in_no_ranking(finished):
    tables = {table.name: table.examples for table in finished.tables(8)}
    assert [sample.row for sample in tables["highest"]][:2] == [7, 4]
    assert [sample.row for sample in tables["lowest"]][:2] == [3, 6]
    shown = {sample.row for examples in tables.values() for sample in examples}
    assert not shown & set(REMOVED_ROWS)
    # The best of six is better than five of them, and than half of itself.
    assert tables["highest"][0].place == pytest.approx(5.5 / 6)
