"""Fields of a pool on a server, and of one that a command writes."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.pool.serving import FolderServer
from selffilter.pool.fields import field_values
from selffilter.pool.index import Pool, build_index

VALUES = [["en", "de"], ["fr"]]


@pytest.fixture
def folder(make_tar, tmp_path):
    for shard, values in enumerate(VALUES):
        samples = [
            (f"{shard}{place}", {"png": b"i", "txt": b"t", "json": json.dumps({"l": v}).encode()})
            for place, v in enumerate(values)
        ]
        make_tar(tmp_path / "p" / f"{shard}.tar", samples)
    table = pa.table({"key": ["10"], "l": ["it"]})
    pq.write_table(table, tmp_path / "p" / "1.parquet")
    return tmp_path / "p"


def found(pool):
    codes_N, names = field_values(pool, "l")
    return [names[code] for code in codes_N]


def test_jsons_and_metadata_are_read_from_a_server(folder, tmp_path):
    with FolderServer(folder) as server:
        index = tmp_path / "i"
        pool = Pool(index, build_index([f"{server.url}/{{0..1}}.tar"], index))
        assert found(pool) == ["en", "de", "it"]


def test_of_a_commands_output_the_jsons_are_read(folder, tmp_path):
    index = tmp_path / "i"
    spec = f"pipe:cat {folder}/{{0..1}}.tar"
    pool = Pool(index, build_index([spec], index, allow_pipe=True))
    assert found(pool) == ["en", "de", "fr"]
