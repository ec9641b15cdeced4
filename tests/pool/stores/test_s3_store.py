"""Reading from S3, served by moto on this machine."""

import pytest

pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'selffilter[s3]'")
pytest.importorskip("moto.server", reason="moto is not installed: pip install 'selffilter[dev]'")

import botocore.session
import s3fs

from benchmarks.pool.s3_server import S3Server
from selffilter.pool.stores import remote
from selffilter.pool.stores.remote import RemoteStore
from selffilter.pool.stores.store import Span


@pytest.fixture(scope="module")
def running():
    with S3Server() as server:
        client = botocore.session.get_session().create_client("s3")
        client.create_bucket(Bucket="pool")
        yield server, client


@pytest.fixture
def s3(running, content):
    server, client = running
    for name, data in content.items():
        client.put_object(Bucket="pool", Key=f"a/{name}", Body=data)
    server.forget()
    server.busy, server.gather = 0, 1
    return server


def spans(*wanted):
    return [Span(f"s3://pool/a/{name}", start, end) for name, start, end in wanted]


def test_spans_come_in_the_order_asked_each_as_one_request(s3, content):
    wanted = [("0.tar", 100, 300), ("1.tar", 0, 1000), ("0.tar", 250, 260), ("2.tar", 3, 3)]
    found = RemoteStore().read(spans(*wanted))
    assert found == [content[name][start:end] for name, start, end in wanted]
    assert sorted(s3.asked) == [
        ("GET", "/pool/a/0.tar", "bytes=100-299"),
        ("GET", "/pool/a/0.tar", "bytes=250-259"),
        ("GET", "/pool/a/1.tar", "bytes=0-999"),
    ]
    assert s3.sent == 1210


def test_requests_of_one_call_are_open_at_the_same_time(s3):
    s3.gather = 24  # botocore's own bound is 10 connections
    RemoteStore().read(spans(*(("0.tar", i, i + 1) for i in range(24))))
    assert s3.most_open == 24


def test_size_and_tag_tell_a_changed_shard_from_the_old_one(s3, running):
    store = RemoteStore()
    before = store.stat("s3://pool/a/1.tar")
    assert before.size == 1000
    assert before.tag
    assert store.stat("s3://pool/a/1.tar") == before
    running[1].put_object(Bucket="pool", Key="a/1.tar", Body=b"x" * 1000)
    assert store.stat("s3://pool/a/1.tar").tag != before.tag


def test_a_listing_does_not_hide_a_changed_shard(s3, running):
    s3fs.S3FileSystem().ls("pool/a")
    running[1].put_object(Bucket="pool", Key="a/1.tar", Body=b"xy")
    assert RemoteStore().stat("s3://pool/a/1.tar").size == 2


def test_a_shard_can_be_scanned(s3, content):
    with RemoteStore().open("s3://pool/a/0.tar") as stream:
        stream.seek(30_000)
        assert stream.read() == content["0.tar"][30_000:]


def test_what_is_not_there_is_missing_at_once_and_named(s3):
    for location in ("s3://pool/a/none.tar", "s3://nowhere/a/0.tar"):
        for ask in (
            lambda at=location: RemoteStore().stat(at),
            lambda at=location: RemoteStore().read([*spans(("0.tar", 0, 5)), Span(at, 0, 1)]),
        ):
            with pytest.raises(FileNotFoundError, match=location):
                ask()
    gets = [path for method, path, header in s3.asked if header and not path.endswith("0.tar")]
    assert gets == ["/pool/a/none.tar"]
    with pytest.raises(IsADirectoryError, match="s3://pool/a is a folder"):
        RemoteStore().stat("s3://pool/a")


def test_a_busy_server_is_asked_again_as_often_as_is_said_and_no_more(s3, content):
    s3.busy = remote.ATTEMPTS - 1
    assert RemoteStore().read(spans(("0.tar", 5, 9))) == [content["0.tar"][5:9]]
    assert len(s3.asked) == remote.ATTEMPTS
    s3.forget()
    s3.busy = 10_000
    with pytest.raises(OSError, match=r"s3://pool/a/0\.tar: Reduce your request rate"):
        RemoteStore().read(spans(("0.tar", 5, 9)))
    assert len(s3.asked) == remote.ATTEMPTS  # not multiplied by botocore's and s3fs's own


def test_a_shard_that_became_shorter_is_a_fault_that_names_it(s3, running):
    running[1].put_object(Bucket="pool", Key="a/0.tar", Body=b"x" * 100)
    with pytest.raises(OSError, match=r"s3://pool/a/0\.tar: .*become shorter"):
        RemoteStore().read(spans(("0.tar", 90, 200)))
    with pytest.raises(OSError, match=r"s3://pool/a/0\.tar"):
        RemoteStore().read(spans(("0.tar", 150, 200)))


def test_missing_credentials_are_said_at_once(s3, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    with pytest.raises(PermissionError, match=r"s3://pool/a/0\.tar: Unable to locate credentials"):
        RemoteStore().read(spans(("0.tar", 5, 9)))
    with pytest.raises(PermissionError, match="FSSPEC_S3_ANON=true"):
        RemoteStore().stat("s3://pool/a/0.tar")
    assert s3.asked == []


def test_a_server_that_takes_no_connection_ends_in_an_error_that_names_the_shard(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(OSError, match=r"s3://pool/a/0\.tar: Could not connect to the endpoint"):
        RemoteStore().read(spans(("0.tar", 5, 9)))
