import time
from pathlib import Path

import numpy as np
import pytest

from selffilter.errors import StoreGone
from selffilter.pool import prefetch
from selffilter.pool.index import Pool, build_index
from selffilter.pool.packs import Packs
from selffilter.pool.prefetch import Fetching, Prefetcher, fetching_ahead
from selffilter.pool.row_reader import RowReader

MEMBERS = ("image", "caption")


def rows(*numbers):
    return np.array(numbers, dtype=np.int64)


@pytest.fixture
def packs(tmp_path):
    return Packs(tmp_path / "packs", 10**9)


@pytest.fixture(autouse=True)
def everything_is_far(monkeypatch):
    monkeypatch.setattr(prefetch, "is_far", lambda location: True)


def packed(pool, packs, shard):
    pack = packs.open(pool.fingerprint(shard))
    first, end = pool.first_row[shard : shard + 2]
    return [] if pack is None else np.flatnonzero(pack.places(np.arange(end - first)) >= 0).tolist()


def test_what_is_wanted_lies_in_packs_and_is_read_from_there(tiny_pool, packs):
    fetching = Fetching(tiny_pool, packs, MEMBERS, 8192, {})
    fetching.fetch(rows(0, 2, 5, 6))
    assert [packed(tiny_pool, packs, shard) for shard in range(3)] == [[0, 2], [], [0, 1]]
    reader = RowReader(tiny_pool, packs=packs)
    assert reader.read(rows(6, 0)) == RowReader(tiny_pool).read(rows(6, 0))
    assert reader.reads.requests == 0


def test_what_lies_there_is_not_fetched_again_and_what_is_not_wanted_any_more_goes(
    tiny_pool, packs
):
    fetching = Fetching(tiny_pool, packs, MEMBERS, 0, {})
    fetching.fetch(rows(0, 2))
    before = fetching.reads.requests
    fetching.fetch(rows(0))
    assert fetching.reads.requests == before
    assert packed(tiny_pool, packs, 0) == [0, 2]
    fetching.fetch(rows(2, 3))  # 2 comes from the old pack
    assert fetching.reads.requests == before + 2
    assert packed(tiny_pool, packs, 0) == [2, 3]


def test_without_room_nothing_is_fetched_and_what_is_in_use_stays(tiny_pool, packs):
    fetching = Fetching(tiny_pool, packs, MEMBERS, 8192, {})
    fetching.fetch(rows(0, 1))
    packs.max_bytes = (packs.folder / f"{tiny_pool.fingerprint(0)}.arrow").stat().st_size
    fetching.fetch(rows(5, 6))
    assert packed(tiny_pool, packs, 0) == [0, 1]
    assert packed(tiny_pool, packs, 2) == []
    fetching.fetch(rows(5, 6))  # by now nobody wants the first
    assert packed(tiny_pool, packs, 0) == []
    assert packed(tiny_pool, packs, 2) == [0, 1]


def test_shards_are_fetched_in_groups_that_fit_into_memory(tiny_pool, packs, monkeypatch):
    monkeypatch.setattr(prefetch, "_GROUP_BYTES", 1)
    Fetching(tiny_pool, packs, MEMBERS, 8192, {}).fetch(rows(*range(8)))
    assert [packed(tiny_pool, packs, shard) for shard in range(3)] == [[0, 1, 2, 3], [0], [0, 1, 2]]


def test_a_shard_that_stays_away_is_told(tiny_pool, packs):
    Path(tiny_pool.location(1)).unlink()
    with pytest.raises(StoreGone, match=r"00001\.tar"):
        Fetching(tiny_pool, packs, MEMBERS, 8192, {}).fetch(rows(4))


def test_of_a_row_that_is_too_large_nothing_is_fetched(make_tar, tmp_path, packs):
    samples = [(str(i), {"png": b"x" * size, "txt": b"t"}) for i, size in enumerate((9, 99, 5))]
    make_tar(tmp_path / "p" / "0.tar", samples)
    pool = Pool(tmp_path / "index", build_index([str(tmp_path / "p")], tmp_path / "index"))
    Fetching(pool, packs, MEMBERS, 8192, {"image": 9}).fetch(rows(0, 1, 2))
    assert packed(pool, packs, 0) == [0, 2]


def test_a_process_beside_this_one_fetches_and_ends(make_tar, tmp_path, packs):
    samples = [(str(i), {"png": b"%d" % i, "txt": b"t"}) for i in range(6)]
    tar = make_tar(tmp_path / "p" / "0.tar", samples)
    version = build_index([f"far=pipe:cat {tar}"], tmp_path / "index", allow_pipe=True)
    pool = Pool(tmp_path / "index", version)
    with fetching_ahead(Fetching(pool, packs, MEMBERS, 8192, {}), share=(0, 1)) as ahead:
        ahead.want(rows(1, 4))
        while not ahead.reads().requests:
            time.sleep(0.01)
    assert packed(pool, packs, 0) == [1, 4]
    assert ahead.reads().read_bytes >= 4
    assert not ahead._process.is_alive()


def test_the_processes_of_a_node_divide_the_shards(tiny_pool):
    class Jobs:
        def put(self, rows):
            self.rows = rows.tolist()

    asked = []
    for rank in range(2):
        one = Prefetcher.__new__(Prefetcher)
        one._pool, one._share, one._jobs = tiny_pool, (rank, 2), Jobs()
        one.want(rows(6, 0, 4, 7, 0))
        asked.append(one._jobs.rows)
    assert asked == [[0, 6, 7], [4]]


def test_with_nothing_to_do_nothing_is_fetched():
    with fetching_ahead(None, share=(0, 1)) as ahead:
        ahead.want(rows(1))
        assert ahead.reads().requests == 0
