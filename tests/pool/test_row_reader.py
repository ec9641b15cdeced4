import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from selffilter import patience
from selffilter.errors import StoreGone
from selffilter.pool import row_reader
from selffilter.pool.index import Pool, build_index
from selffilter.pool.packs import Packs
from selffilter.pool.row_reader import RowReader


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.0)


@pytest.fixture
def big_pool(make_tar, tmp_path):
    """One shard of 40 samples: image of 20 kB, json of 1 kB, caption of 20 bytes."""
    rng = np.random.default_rng(0)
    samples = [
        (f"{i:03d}", {"jpg": rng.bytes(20_000), "json": b"{}" * 500, "txt": b"%-20d" % i})
        for i in range(40)
    ]
    make_tar(tmp_path / "big" / "0.tar", samples)
    index = tmp_path / "big_index"
    return Pool(index, build_index([str(tmp_path / "big")], index)), samples


def rows(*numbers):
    return np.array(numbers, dtype=np.int64)


def test_rows_come_in_the_order_asked_for_also_twice(tiny_pool, picture):
    for asked in [(7, 0, 4, 3, 0), (0,), (5, 6), ()]:
        found = RowReader(tiny_pool).read(rows(*asked))
        assert found == [(picture(row), f"caption {row}".encode()) for row in asked]


def test_members_come_in_the_order_asked_for_and_none_for_what_is_not_there(tiny_pool, picture):
    reader = RowReader(tiny_pool)
    assert reader.read(rows(4), ("json", "caption")) == [(None, b"caption 4")]
    assert reader.member(4, "image") == picture(4)
    assert reader.member(4, "json") is None


def test_what_stands_together_is_one_request(big_pool):
    pool, samples = big_pool
    reader = RowReader(pool, request_bytes=4096)
    found = reader.read(rows(3, 4, 5, 20))
    assert [image for image, _ in found] == [samples[i][1]["jpg"] for i in (3, 4, 5, 20)]
    assert reader.reads.requests == 2
    assert reader.reads.wanted_bytes == 4 * 20_020
    assert 4 * 20_020 < reader.reads.read_bytes < 4 * 24_000


def test_what_a_request_is_worth_decides_between_requests_and_bytes(big_pool):
    pool, _ = big_pool
    every_third = rows(*range(0, 40, 3))
    costs = {}
    for worth in (0, 4096, 1_000_000):
        reader = RowReader(pool, request_bytes=worth)
        reader.read(every_third)
        costs[worth] = (reader.reads.requests, reader.reads.read_bytes)
    assert costs[0] == (28, 14 * 20_020)  # image and caption of each
    assert costs[4096][0] == 14
    assert costs[1_000_000][0] == 1
    assert costs[1_000_000][1] > 2.9 * costs[0][1]


def test_a_far_shard_that_is_wanted_densely_is_read_in_one_piece(big_pool, monkeypatch):
    pool, samples = big_pool
    monkeypatch.setattr(row_reader, "is_far", lambda location: True)
    for step, requests in ((20, 2), (3, 1), (1, 1)):
        reader = RowReader(pool)
        asked = list(range(0, 40, step))
        found = reader.read(rows(*asked))
        assert [image for image, _ in found] == [samples[i][1]["jpg"] for i in asked]
        assert reader.reads.requests == requests


def test_a_row_in_a_pack_is_not_read_from_its_shard(big_pool, tmp_path):
    pool, samples = big_pool
    packs = Packs(tmp_path / "packs", 10**9)
    whole = RowReader(pool).read(rows(3, 7))
    packs.write(pool.fingerprint(0), rows(3, 7), ("image", "caption"), whole)
    reader = RowReader(pool, packs=packs)
    found = reader.read(rows(7, 8, 3))
    assert [image for image, _ in found] == [samples[i][1]["jpg"] for i in (7, 8, 3)]
    assert reader.reads.packed_bytes == 2 * 20_020
    assert reader.reads.wanted_bytes == 3 * 20_020
    assert reader.reads.requests == 1
    # A pack without the json is no help to who wants it.
    assert reader.read(rows(3), ("json",)) == [(b"{}" * 500,)]
    assert reader.reads.requests == 2


@pytest.mark.parametrize("harm", ["gone", "shorter", "folder"])
def test_a_shard_that_cannot_be_read_is_named(tiny_pool, harm):
    path = Path(tiny_pool.location(0))
    if harm == "shorter":
        os.truncate(path, 600)
    else:
        path.unlink()
    if harm == "folder":
        path.mkdir()
    with pytest.raises(StoreGone, match=path.name):
        RowReader(tiny_pool).read(rows(0))


def test_a_fault_that_passes_is_read_over(tiny_pool, monkeypatch, picture):
    faults = [OSError("stale handle"), OSError("stale handle")]
    pread = os.pread

    def flaky(*args):
        if faults:
            raise faults.pop()
        return pread(*args)

    monkeypatch.setattr(os, "pread", flaky)
    assert RowReader(tiny_pool).read(rows(0))[0][0] == picture(0)


def test_a_copy_for_another_process_reads_the_same(tiny_pool):
    reader = RowReader(tiny_pool)
    before = reader.read(rows(0, 6))
    assert pickle.loads(pickle.dumps(reader)).read(rows(0, 6)) == before
