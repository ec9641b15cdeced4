from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from selffilter.pool import uids
from selffilter.pool.subset import read_subset
from selffilter.scoring.table import score_table
from selffilter.selecting.mix import select_mix
from selffilter.selecting.on_disk import read_scores, read_share, write_selection
from selffilter.tables import SELECTION, shard_file, write_table
from selffilter.training.selected import Selected


def a_mix(pool, keep=0.5, diverse=0.5):
    scores = np.array([3, 1, 4, 1, 5, 9, 2, np.nan], np.float32)
    return select_mix(
        np.arange(8), scores, pool.uids_of, keep_fraction=keep, diverse_fraction=diverse,
        seed=3, round_=1,
    )  # fmt: skip


def contents(folder: Path):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_a_rerun_writes_the_same_bytes(tiny_pool, tmp_path):
    for name in ("one", "two"):
        write_selection(tmp_path / name, a_mix(tiny_pool), tiny_pool, 1)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert sorted(contents(tmp_path / "one")) == [
        "00000.parquet", "00001.parquet", "00002.parquet", "counts.npy", "subset.npy",
    ]  # fmt: skip


def test_a_selection_says_of_each_row_what_the_mix_says(tiny_pool, tmp_path):
    mix = a_mix(tiny_pool)
    write_selection(tmp_path / "s", mix, tiny_pool, 7)
    tables = [pq.read_table(shard_file(tmp_path / "s", s), partitioning=None) for s in range(3)]
    assert all(table.schema.equals(SELECTION) for table in tables)
    records = [record for table in tables for record in table.to_pylist()]
    assert [r["row"] for r in records] == mix.rows_K.tolist()
    assert [r["share"] == "confident" for r in records] == mix.confident_K.tolist()
    assert [r["rank"] for r in records] == mix.rank_K.tolist()
    assert {r["weight"] for r in records} == {1}
    assert {r["round"] for r in records} == {7}
    np.testing.assert_array_equal([r["score"] for r in records], mix.scores_K)
    assert [r["uid"].hex() for r in records] == uids.to_hex(tiny_pool.uids_of(mix.rows_K))
    for shard, table in enumerate(tables):
        assert set(table["row"].to_pylist()) <= set(tiny_pool.shard_rows(shard).tolist())


def test_the_subset_file_holds_exactly_the_selected_uids(tiny_pool, tmp_path):
    mix = a_mix(tiny_pool)
    write_selection(tmp_path / "s", mix, tiny_pool, 1)
    assert uids.to_hex(read_subset(tmp_path / "s" / "subset.npy")) == sorted(
        uids.to_hex(tiny_pool.uids_of(mix.rows_K))
    )


def test_rows_of_a_weighty_shard_stand_several_times(tiny_pool, tmp_path):
    mix = a_mix(tiny_pool, keep=1)
    write_selection(tmp_path / "s", mix, tiny_pool, 1, lambda shard: (1, 3, 2)[shard])
    selected = Selected(tmp_path / "s")
    assert selected.counts_PS.tolist() == [[4, 1, 2], [0, 1, 2], [0, 1, 0]]
    for shard, times in enumerate(selected.counts_PS.T.tolist()):
        assert [len(selected.rows(shard, pass_)) for pass_ in range(3)] == times
    assert len(read_subset(tmp_path / "s" / "subset.npy")) == 4 + 3 * 1 + 2 * 2


def test_the_shares_are_read_back(tiny_pool, tmp_path):
    mix = a_mix(tiny_pool, diverse=1)
    write_selection(tmp_path / "s", mix, tiny_pool, 1)
    assert read_share(tmp_path / "s", 3, "confident").tolist() == mix.confident.tolist()
    assert read_share(tmp_path / "s", 3, "diverse").tolist() == mix.diverse.tolist()
    assert len(mix.confident) and len(mix.diverse)


def test_a_selection_that_leaves_shards_empty_is_read_back(tiny_pool, tmp_path):
    mix = a_mix(tiny_pool, keep=0.15, diverse=0)
    write_selection(tmp_path / "s", mix, tiny_pool, 1)
    assert read_share(tmp_path / "s", 3, "confident").tolist() == [5]
    assert Selected(tmp_path / "s").counts_PS.tolist() == [[0, 0, 1]]


def test_training_reads_the_rows_of_the_selection(tiny_pool, tmp_path):
    mix = a_mix(tiny_pool)
    write_selection(tmp_path / "s", mix, tiny_pool, 1)
    selected = Selected(tmp_path / "s")
    rows = [selected.rows(shard, 0).tolist() for shard in range(3)]
    assert [row for part in rows for row in part] == mix.rows_K.tolist()
    assert selected.counts_PS.tolist() == [[len(part) for part in rows]]


def test_scores_are_read_with_nan_failures_and_probe(tiny_pool, tmp_path):
    class EveryOther:
        pool = tiny_pool

        @staticmethod
        def in_probe(rows):
            return rows % 2 == 1

        @staticmethod
        def outside(shard):
            return tiny_pool.shard_rows(shard) == 4

    for shard in range(3):
        rows = tiny_pool.shard_rows(shard)
        failures = np.where(rows == 3, 5, 0).astype(np.uint8)
        scores = np.where(rows == 3, np.nan, rows / 10).astype(np.float32)
        table = score_table(EveryOther, shard, rows, {"cosine": scores}, failures, 2)
        write_table(shard_file(tmp_path, shard), table)
    read = read_scores(tmp_path, 3, "cosine")
    assert read.rows_N.tolist() == list(range(8))
    np.testing.assert_allclose(read.scores_N, [0, 0.1, 0.2, np.nan, 0.4, 0.5, 0.6, 0.7], rtol=1e-6)
    assert read.failure_N.tolist() == [0, 0, 0, 5, 0, 0, 0, 0]
    # A row that failed is counted as failed, not as probe.
    assert read.probe_N.tolist() == [False, True, False, False, False, True, False, True]
    assert np.flatnonzero(read.outside_N).tolist() == [4]
    assert np.flatnonzero(read.in_base).tolist() == [0, 2, 6]
