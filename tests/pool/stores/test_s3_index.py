"""Indexing a pool on S3, served by moto on this machine."""

import pytest

pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'selffilter[s3]'")
pytest.importorskip("moto.server", reason="moto is not installed: pip install 'selffilter[dev]'")

import botocore.session

from benchmarks.pool.s3_server import S3Server
from selffilter.errors import UserError
from selffilter.pool.index import Pool, build_index


@pytest.fixture(scope="module")
def client():
    with S3Server():
        client = botocore.session.get_session().create_client("s3")
        client.create_bucket(Bucket="pools")
        yield client


@pytest.fixture
def bucket(client, tiny_pool, tmp_path):
    """The shards of `tiny_pool` in a bucket."""
    for path in (tmp_path / "pool").glob("*.tar"):
        client.put_object(Bucket="pools", Key=f"a/pool/{path.name}", Body=path.read_bytes())
    yield "s3://pools/a/pool"
    for found in client.list_objects_v2(Bucket="pools")["Contents"]:
        client.delete_object(Bucket="pools", Key=found["Key"])


def index(spec, tmp_path, **kwargs):
    return Pool(tmp_path / "far", build_index([spec], tmp_path / "far", **kwargs))


@pytest.mark.parametrize("pattern", ["", "/*.tar", "/0000[0-2].tar", "/{00000..00002}.tar"])
def test_a_bucket_has_the_rows_of_the_folder(bucket, tiny_pool, tmp_path, pattern):
    far = index(bucket + pattern, tmp_path)
    assert far.sources == tiny_pool.sources == ["pool"]
    assert far.location(2) == "s3://pools/a/pool/00002.tar"
    for shard in range(3):
        assert far.shard_table(shard).equals(tiny_pool.shard_table(shard))


def test_what_has_changed_since_is_seen_by_the_process_that_indexed(bucket, client, tmp_path):
    far = index(bucket, tmp_path)
    assert list(far.changed_shards()) == []
    client.put_object(Bucket="pools", Key="a/pool/00001.tar", Body=b"other")
    client.delete_object(Bucket="pools", Key="a/pool/00002.tar")
    assert list(far.changed_shards()) == [(1, "changed"), (2, "gone")]
    with pytest.raises(UserError, match=r"00002\.tar is gone"):
        far.check_shards()


def test_shards_that_were_added_are_seen_by_the_process_that_indexed(bucket, client, tmp_path):
    before = index(bucket, tmp_path)
    added = (tmp_path / "pool" / "00000.tar").read_bytes()
    client.put_object(Bucket="pools", Key="a/pool/-first.tar", Body=added)
    grown = index(bucket, tmp_path)
    assert grown.rows == before.rows + 4
    assert [grown.fingerprint(s) for s in range(3)] == [before.fingerprint(s) for s in range(3)]


def test_several_processes_scan_alike(bucket, client, tmp_path):
    for number in (3, 4, 5):
        data = (tmp_path / "pool" / "00001.tar").read_bytes()
        client.put_object(Bucket="pools", Key=f"a/pool/{number:05d}.tar", Body=data)
    assert index(bucket, tmp_path, workers=2).rows == 11
