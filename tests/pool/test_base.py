import json

import numpy as np
import pytest

from selffilter.config import Config, PoolConfig
from selffilter.errors import UserError
from selffilter.pool.base import Base
from selffilter.pool.index import Pool, build_index
from selffilter.pool.subset import write_subset


@pytest.fixture
def pool(make_tar, tmp_path):
    """300 rows in 3 shards; every tenth has no caption."""
    for shard in range(3):
        samples = []
        for i in range(100):
            members = {"png": b"i", "txt": b"t"} if i % 10 else {"png": b"i"}
            samples.append((f"{shard}-{i}", members))
        make_tar(tmp_path / "p" / f"{shard}.tar", samples)
    return Pool(tmp_path / "index", build_index([str(tmp_path / "p")], tmp_path / "index"))


def rows_of(base):
    return np.concatenate([base.rows(shard) for shard in range(base.pool.shards)])


def test_the_base_is_indexed_less_probe_less_known_failures(pool):
    base = Base(pool, seed=0, probe_fraction=0.2)
    everything = np.arange(300)
    probe = everything[base.in_probe(everything)]
    expected = set(range(300)) - set(range(0, 300, 10)) - set(probe.tolist())
    assert rows_of(base).tolist() == sorted(expected)
    assert base.size == len(expected)
    assert base.counts_S.tolist() == [len(base.rows(shard)) for shard in range(3)]
    assert base.counts_PS.tolist() == [base.counts_S.tolist()]
    assert 30 < len(probe) < 90


def test_readable_rows_are_base_and_probe(pool):
    base = Base(pool, seed=0, probe_fraction=0.2)
    readable = np.concatenate([base.readable(shard) for shard in range(3)])
    assert readable.tolist() == [row for row in range(300) if row % 10]
    assert readable[~base.in_probe(readable)].tolist() == rows_of(base).tolist()


def test_the_probe_depends_on_the_seed_and_is_bounded(pool):
    rows = np.arange(300)
    first, second = (Base(pool, seed, 0.2).in_probe(rows).tolist() for seed in (0, 1))
    assert first != second
    assert first == Base(pool, 0, 0.2).in_probe(rows).tolist()
    few = Base(pool, 0, probe_fraction=0.5, probe_max_rows=30)
    assert few.probe_fraction == pytest.approx(0.1)
    assert Base(pool, 0, probe_fraction=0.5, probe_max_rows=0).size == 270
    assert not Base(pool, 0).in_probe(rows).any()


def test_a_draw_is_from_the_whole_base_and_never_larger(pool):
    base = Base(pool, seed=0, probe_fraction=0.2)
    drawn = base.draw(60, "bank")
    assert len(set(drawn.tolist())) == 60
    assert set(drawn.tolist()) <= set(rows_of(base).tolist())
    assert set(pool.shard_of(drawn).tolist()) == {0, 1, 2}
    assert base.draw(60, "other").tolist() != drawn.tolist()
    assert base.draw(10_000, "bank").tolist() == rows_of(base).tolist()


def test_a_subset_is_the_base_and_the_rest_is_outside(pool, tmp_path):
    chosen = np.arange(5, 250, 7)
    weight = 1 + np.arange(len(chosen)) % 3
    write_subset(tmp_path / "s.npy", pool.uids_of(chosen), weight.astype(np.int32))
    base = Base(pool, 0, probe_fraction=0.2, subset=tmp_path / "s.npy")
    whole = set(rows_of(Base(pool, 0, probe_fraction=0.2)).tolist())
    assert rows_of(base).tolist() == [row for row in chosen.tolist() if row in whole]
    weights = np.concatenate([base.weights(shard) for shard in range(3)])
    asked = dict(zip(chosen.tolist(), weight.tolist(), strict=True))
    assert weights.tolist() == [asked[row] for row in rows_of(base).tolist()]
    for above, counts in enumerate(base.counts_PS.tolist()):
        assert counts == [int((base.weights(shard) > above).sum()) for shard in range(3)]
    assert len(base.counts_PS) == 3
    outside = np.concatenate([base.outside(shard) for shard in range(3)])
    assert np.flatnonzero(~outside).tolist() == chosen.tolist()
    # What is scored does not change: rows outside are looked at like the others.
    assert base.readable(1).tolist() == Base(pool, 0).readable(1).tolist()


def test_a_subset_of_another_pool_is_refused(pool, tmp_path):
    write_subset(tmp_path / "s.npy", np.array([[1, 2]], np.uint64))
    with pytest.raises(UserError, match="none of its uids"):
        Base(pool, 0, subset=tmp_path / "s.npy")
    with pytest.raises(UserError, match="not a DataComp subset"):
        Base(pool, 0, subset=tmp_path / "absent.npy")


def test_duplicates_are_no_part_of_the_base(make_tar, tmp_path):
    members = {"png": b"i", "txt": b"t", "json": json.dumps({"uid": "a" * 32}).encode()}
    make_tar(tmp_path / "p" / "0.tar", [("1", members), ("2", members)])
    index = tmp_path / "index"
    assert rows_of(Base(Pool(index, build_index([str(tmp_path / "p")], index)), 0)).tolist() == [0]


def test_a_sources_weight_multiplies_that_of_the_subset(make_tar, tmp_path):
    for name in ("a", "b"):
        samples = [(str(i), {"png": b"i", "txt": b"t"}) for i in range(5)]
        make_tar(tmp_path / name / "0.tar", samples)
    specs = [str(tmp_path / "a"), f"other={tmp_path}/b"]
    pool = Pool(tmp_path / "index", build_index(specs, tmp_path / "index"))
    base = Base(pool, 0, source_weights={"other": 3})
    assert [base.weights(shard).tolist() for shard in (0, 1)] == [[1] * 5, [3] * 5]
    write_subset(tmp_path / "s.npy", pool.uids_of(np.array([0, 5, 6])), np.array([2, 1, 2]))
    base = Base(pool, 0, subset=tmp_path / "s.npy", source_weights={"other": 3})
    assert [rows.tolist() for rows in base.weighted_rows(0)] == [[0], [2]]
    assert [rows.tolist() for rows in base.weighted_rows(1)] == [[5, 6], [3, 6]]


def test_weights_go_by_the_names_of_sources_whatever_order_the_index_has(make_tar, tmp_path):
    for name in ("a", "b"):
        make_tar(tmp_path / name / "0.tar", [("1", {"png": b"i", "txt": b"t"})])
    index = tmp_path / "index"
    build_index([str(tmp_path / "a")], index)
    specs = [str(tmp_path / "b"), str(tmp_path / "a")]
    pool = Pool(index, build_index(specs, index))
    assert pool.sources == ["a", "b"]
    assert [pool.source_of(shard) for shard in (0, 1)] == [0, 1]
    config = Config(pool=PoolConfig(shards=specs, source_weights=[4, 1]))
    base = Base.of(pool, config)
    assert [base.weights(shard).tolist() for shard in (0, 1)] == [[1], [4]]


@pytest.mark.parametrize("fraction", [0.0, 0.3])
def test_counts_are_those_of_the_rows_with_shards_that_are_empty(make_tar, tmp_path, fraction):
    for shard, size in enumerate((0, 40, 0, 0, 25, 1)):
        samples = [
            (f"{shard}-{i}", {"png": b"i", "txt": b"t"} if i % 3 else {"txt": b"t"})
            for i in range(size)
        ]
        make_tar(tmp_path / "p" / f"{shard}.tar", samples)
    base = Base(
        Pool(tmp_path / "i", build_index([str(tmp_path / "p")], tmp_path / "i")), 1, fraction
    )
    assert base.counts_S.tolist() == [len(base.rows(shard)) for shard in range(6)]
    expected = base.readable(1)[~base.in_probe(base.readable(1))]
    assert base.rows(1).tolist() == expected.tolist()
