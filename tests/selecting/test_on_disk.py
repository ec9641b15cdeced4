from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selffilter.config import SelectConfig
from selffilter.errors import UserError
from selffilter.pool import uids
from selffilter.pool.subset import read_subset
from selffilter.scoring.table import score_table
from selffilter.selecting.choice import Candidates, choose
from selffilter.selecting.on_disk import read_scores, read_shard, read_shares, write_selection
from selffilter.tables import SELECTION, shard_file, write_table
from selffilter.training.selected import Selected

SCORES = np.array([3, 1, 4, 1, 5, 9, 2, np.nan], np.float32)


def a_mix(pool, keep=0.5, diverse=0.5):
    scores = SCORES
    settings = SelectConfig(keep_fraction=[keep], diverse_fraction=[diverse])
    return choose(Candidates(scores, np.ones(8, bool), pool.uids_of), settings, seed=3, round_=1)


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
    assert [r["row"] for r in records] == mix.rows.tolist()
    confident = [r["row"] for r in records if r["share"] == "confident"]
    assert confident == mix.confident.tolist()
    better = {row: sum(score < SCORES) for row, score in enumerate(SCORES)}
    better[7] = -1  # it has no score
    assert [r["rank"] for r in records] == [better[row] for row in mix.rows.tolist()]
    assert {r["weight"] for r in records} == {1}
    assert {r["round"] for r in records} == {7}
    np.testing.assert_array_equal([r["score"] for r in records], SCORES[mix.rows])
    assert [r["uid"].hex() for r in records] == uids.to_hex(tiny_pool.uids_of(mix.rows))
    for shard, table in enumerate(tables):
        assert set(table["row"].to_pylist()) <= set(tiny_pool.shard_rows(shard).tolist())


def test_blocks_of_any_size_give_the_same_bytes(tiny_pool, tmp_path, monkeypatch):
    mix, times = a_mix(tiny_pool, keep=0.6), lambda shard: (1, 3, 2)[shard]
    for rows in (1, 5, 100):
        monkeypatch.setattr("selffilter.selecting.on_disk.CHUNK_ROWS", rows)
        write_selection(tmp_path / str(rows), mix, tiny_pool, 1, times)
    assert contents(tmp_path / "1") == contents(tmp_path / "5") == contents(tmp_path / "100")


def test_the_subset_file_holds_exactly_the_selected_uids(tiny_pool, tmp_path):
    mix = a_mix(tiny_pool)
    write_selection(tmp_path / "s", mix, tiny_pool, 1)
    assert uids.to_hex(read_subset(tmp_path / "s" / "subset.npy")) == sorted(
        uids.to_hex(tiny_pool.uids_of(mix.rows))
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
    shares = read_shares(tmp_path / "s", tiny_pool)
    np.testing.assert_array_equal(shares["confident"], mix.confident_N)
    np.testing.assert_array_equal(shares["diverse"], mix.diverse_N)
    assert len(mix.confident) and len(mix.diverse)


def test_a_shard_of_a_selection_is_read_with_what_its_rows_are_there_for(tiny_pool, tmp_path):
    mix = a_mix(tiny_pool, diverse=1)
    write_selection(tmp_path / "s", mix, tiny_pool, 1)
    for shard in range(3):
        table, confident_k = read_shard(tmp_path / "s", shard, ["row", "uid"])
        assert table.column_names == ["row", "uid"]
        assert table["row"].to_pylist() == tiny_pool.shard_rows(shard).tolist()
        np.testing.assert_array_equal(confident_k, mix.confident_N[table["row"].to_numpy()])


def test_a_selection_that_leaves_shards_empty_is_read_back(tiny_pool, tmp_path):
    mix = a_mix(tiny_pool, keep=0.15, diverse=0)
    write_selection(tmp_path / "s", mix, tiny_pool, 1)
    assert np.flatnonzero(read_shares(tmp_path / "s", tiny_pool)["confident"]).tolist() == [5]
    assert Selected(tmp_path / "s").counts_PS.tolist() == [[0, 0, 1]]


def test_training_reads_the_rows_of_the_selection(tiny_pool, tmp_path):
    mix = a_mix(tiny_pool)
    write_selection(tmp_path / "s", mix, tiny_pool, 1)
    selected = Selected(tmp_path / "s")
    rows = [selected.rows(shard, 0).tolist() for shard in range(3)]
    assert [row for part in rows for row in part] == mix.rows.tolist()
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
    read = read_scores(tmp_path, tiny_pool, ["cosine"])
    scores_N = read.columns["cosine"]
    np.testing.assert_allclose(scores_N, [0, 0.1, 0.2, np.nan, 0.4, 0.5, 0.6, 0.7], rtol=1e-6)
    assert read.failure_N.tolist() == [0, 0, 0, 5, 0, 0, 0, 0]
    # A row that failed is counted as failed, not as probe.
    assert read.probe_N.tolist() == [False, True, False, False, False, True, False, True]
    assert np.flatnonzero(read.outside_N).tolist() == [4]
    assert np.flatnonzero(read.in_base).tolist() == [0, 2, 6]


def test_a_table_of_other_rows_is_refused_by_its_name(tiny_pool, tmp_path):
    for shard in range(3):
        write_table(
            shard_file(tmp_path, shard), pa.table({"cosine": pa.array([1.0], pa.float32())})
        )
    with pytest.raises(UserError, match=r"00000\.parquet"):
        read_scores(tmp_path, tiny_pool, ["cosine"])
