"""Reading over HTTP from a server on this machine, and from memory://; see test_s3_store too."""

import os
import socket
import threading

import fsspec
import pytest

from selffilter.errors import UserError
from selffilter.pool.stores import file_systems, remote
from selffilter.pool.stores.remote import RemoteStore
from selffilter.pool.stores.store import Span


@pytest.fixture
def in_memory(content):
    files = fsspec.filesystem("memory")
    for name, data in content.items():
        files.pipe(f"/store/{name}", data)
    yield "memory://store"
    files.rm("/store", recursive=True)


WANTED = [("0.tar", 100, 300), ("1.tar", 0, 1000), ("0.tar", 0, 40_000), ("0.tar", 250, 260),
          ("2.tar", 3, 3), ("0.tar", 100, 300)]  # fmt: skip


def spans(url, wanted=WANTED):
    return [Span(f"{url}/{name}", start, end) for name, start, end in wanted]


def expected(content, wanted=WANTED):
    return [content[name][start:end] for name, start, end in wanted]


def test_spans_come_in_the_order_asked_whatever_that_is(server, in_memory, shards, content):
    for url in (server.url, in_memory, f"file://{shards}"):
        assert RemoteStore().read(spans(url)) == expected(content)
        assert RemoteStore().read([]) == []


def test_spans_on_several_servers_are_read_in_one_call(serve, in_memory, content):
    one, other = serve().url, serve().url
    urls = [one, other, in_memory, one, in_memory, other]
    mixed = [spans(url)[place] for place, url in enumerate(urls)]
    assert RemoteStore().read(mixed) == expected(content)


def test_a_span_is_one_request_of_exactly_its_bytes(server):
    RemoteStore().read(spans(server.url))
    ranges = sorted(header for _, _, header in server.asked)
    assert ranges == sorted(f"bytes={start}-{end - 1}" for _, start, end in WANTED if end > start)
    assert server.sent == sum(end - start for _, start, end in WANTED)


def test_requests_of_one_call_are_open_at_the_same_time_up_to_a_bound(server, monkeypatch):
    monkeypatch.setattr(remote, "AT_ONCE", 20)
    server.gather, server.latency_s = 20, 0.05
    RemoteStore().read([Span(f"{server.url}/0.tar", i, i + 1) for i in range(100)])
    assert server.count("/0.tar") == 100
    assert server.most_open == 20


def test_size_and_tag_tell_a_changed_shard_from_the_old_one(serve, shards):
    for server in (serve(), serve(etags=False)):
        location = f"{server.url}/1.tar"
        before = RemoteStore().stat(location)
        assert before.size == 1000
        assert before.tag
        assert RemoteStore().stat(location) == before
        os.utime(shards / "1.tar", (1, 1))
        assert RemoteStore().stat(location).tag != before.tag
        os.utime(shards / "1.tar", (2, 2))


def test_memory_has_sizes_and_tags_too(in_memory):
    found = RemoteStore().stat(f"{in_memory}/1.tar")
    assert found.size == 1000
    assert found.tag
    with pytest.raises(IsADirectoryError, match="memory://store is a folder"):
        RemoteStore().stat(in_memory)


def test_a_shard_can_be_scanned_skipping_forward(server, content, monkeypatch):
    monkeypatch.setattr(remote, "_SCAN_BLOCK", 4096)
    monkeypatch.setattr(remote, "_SCAN_PART", 1024)
    server.gather = 4
    with RemoteStore().open(f"{server.url}/0.tar") as stream:
        assert stream.read(512) == content["0.tar"][:512]
        assert server.sent == 4096
        assert server.most_open == 4  # a block is fetched in parts at the same time
        assert stream.seek(30_000) == 30_000
        assert stream.read(10) == content["0.tar"][30_000:30_010]
        assert server.sent == 2 * 4096
        assert stream.read() == content["0.tar"][30_010:]
        assert stream.read(1) == b""


def test_a_shard_of_unknown_length_cannot_be_scanned(serve):
    server = serve(lengths=False)
    assert RemoteStore().stat(f"{server.url}/0.tar").size is None
    with pytest.raises(OSError, match=r"0\.tar: the server does not say how long it is"):
        RemoteStore().open(f"{server.url}/0.tar")


def test_a_shard_that_is_not_there_is_missing_at_once_and_named(server, in_memory):
    for url in (server.url, in_memory):
        location = f"{url}/none.tar"
        wanted = [*spans(url), Span(location, 0, 1)]
        with pytest.raises(FileNotFoundError, match=location):
            RemoteStore().read(wanted)
        with pytest.raises(FileNotFoundError, match=location):
            RemoteStore().stat(location)
        with pytest.raises(FileNotFoundError, match=location):
            RemoteStore().open(location)
    assert server.count("/none.tar") == 3  # each of the three asked once


def test_a_server_that_refuses_is_asked_once_and_named(server):
    location = f"{server.url}/0.tar"
    for status in (401, 403):
        server.faults["/0.tar"] = [status]
        with pytest.raises(PermissionError, match=rf"{location}: .*refuses access \({status}"):
            RemoteStore().read([Span(location, 0, 1)])
    assert server.count("/0.tar") == 2


@pytest.mark.parametrize("fault", [503, 429, 500, "cut", "short"])
def test_a_fault_that_passes_is_not_seen(server, content, fault):
    server.faults = {"/0.tar": [fault] * 5, "/1.tar": [fault]}
    assert RemoteStore().read(spans(server.url)) == expected(content)


def test_after_a_fault_only_what_failed_is_asked_for_again(server, content):
    server.faults = {"/1.tar": [503, "cut"]}
    RemoteStore().read(spans(server.url))
    assert server.count("/1.tar") == 3
    assert server.count("/0.tar") == 4


def test_a_fault_that_stays_ends_in_an_error_that_names_the_shard(server):
    server.faults = {"/1.tar": [503] * 99}
    with pytest.raises(OSError, match=rf"{server.url}/1\.tar: the server answers 503"):
        RemoteStore().read(spans(server.url))
    assert server.count("/1.tar") == remote.ATTEMPTS
    assert server.count("/0.tar") == 4


def test_a_server_that_is_busy_does_not_make_a_shard_missing(server, monkeypatch):
    # fsspec 2026.9.0 says FileNotFoundError of whatever goes wrong with HEAD and GET.
    monkeypatch.setattr("benchmarks.pool.serving._Handler.do_HEAD", _send_503)
    server.faults = {"/0.tar": [503] * 3}
    assert RemoteStore().stat(f"{server.url}/0.tar").size == 40_000
    server.faults = {"/0.tar": [503] * 99}
    with pytest.raises(OSError, match="503") as caught:
        RemoteStore().stat(f"{server.url}/0.tar")
    assert not isinstance(caught.value, FileNotFoundError)
    server.faults = {"/0.tar": [403]}
    with pytest.raises(PermissionError, match="403"):
        RemoteStore().stat(f"{server.url}/0.tar")


def _send_503(handler):
    handler.send_response(503)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def test_a_server_that_takes_no_connection_ends_in_an_error_that_names_the_shard():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        location = f"http://127.0.0.1:{taken.getsockname()[1]}/0.tar"
        for ask in (
            lambda: RemoteStore().read([Span(location, 0, 1)]),
            lambda: RemoteStore().stat(location),
        ):
            with pytest.raises(OSError, match=location) as caught:
                ask()
            assert not isinstance(caught.value, FileNotFoundError)


def test_a_server_that_never_answers_is_given_up(server, content, monkeypatch):
    monkeypatch.setattr(file_systems, "SILENCE_S", 0.2)
    server.faults = {"/1.tar": ["silent"]}
    assert RemoteStore().read(spans(server.url)) == expected(content)
    server.faults = {"/1.tar": ["silent"] * 99}
    with pytest.raises(OSError, match=rf"{server.url}/1\.tar"):
        RemoteStore().read(spans(server.url))
    assert server.count("/1.tar") == 2 + remote.ATTEMPTS


def test_a_file_system_without_a_bound_of_its_own_is_given_up_too(server, monkeypatch):
    monkeypatch.setattr(remote, "SILENCE_S", 0.1)  # file_systems keeps its own 30 s
    server.faults = {"/1.tar": ["silent"] * 99}
    with pytest.raises(OSError, match=rf"{server.url}/1\.tar: no answer in time"):
        RemoteStore().read(spans(server.url, [("1.tar", 0, 1)]))


def test_a_server_without_ranges_is_refused_before_it_sends_whole_shards(serve):
    server = serve(ranges=False)
    with pytest.raises(UserError, match="gives whole files alone, not parts of them"):
        RemoteStore().read(spans(server.url, [("0.tar", 5, 10), ("0.tar", 20, 30)]))
    with pytest.raises(UserError, match="whole files alone"):
        RemoteStore().read(spans(server.url, [("0.tar", 0, 10)]))
    assert server.count("/0.tar") == 3  # not tried again


def test_a_whole_shard_is_a_right_answer_where_all_of_it_was_asked_for(serve, content):
    server = serve(ranges=False)
    assert RemoteStore().read(spans(server.url, [("1.tar", 0, 1000)])) == [content["1.tar"]]


def test_a_shard_that_became_shorter_is_a_fault_that_says_so(server, shards):
    os.truncate(shards / "0.tar", 20_000)
    for start in (19_000, 30_000):
        with pytest.raises(OSError, match=r"0\.tar: .*has become shorter"):
            RemoteStore().read(spans(server.url, [("0.tar", start, 40_000)]))


def test_compression_on_the_way_is_not_asked_for(server, monkeypatch):
    seen = []
    original = server._server.RequestHandlerClass._note
    monkeypatch.setattr(
        server._server.RequestHandlerClass,
        "_note",
        lambda self: seen.append(self.headers["Accept-Encoding"]) or original(self),
    )
    RemoteStore().read(spans(server.url))
    RemoteStore().stat(f"{server.url}/0.tar")
    assert set(seen) == {"identity"}


def test_what_the_user_has_configured_for_fsspec_stays(server, monkeypatch):
    seen = []
    original = server._server.RequestHandlerClass._note
    monkeypatch.setattr(
        server._server.RequestHandlerClass,
        "_note",
        lambda self: seen.append(self.headers["Authorization"]) or original(self),
    )
    settings = {"client_kwargs": {"headers": {"Authorization": "Bearer mine"}}}
    monkeypatch.setitem(fsspec.config.conf, "http", settings)
    RemoteStore().read(spans(server.url))
    assert set(seen) == {"Bearer mine"}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonesuch://a/0.tar", r"nonesuch://a/0\.tar: no file system is known for nonesuch://"),
        ("gs://a/0.tar", r"gs:// needs a package that is missing: pip install 'selffilter\[gcs\]'"),
        ("s3://a/0.tar", r"pip install 'selffilter\[s3\]'"),
        ("abfs://a/0.tar", r"needs a package that is missing: Install adlfs"),
    ],
)
def test_a_protocol_that_cannot_be_used_is_refused_in_a_sentence(monkeypatch, url, said):
    real = fsspec.get_filesystem_class

    def lacking(protocol):
        if protocol in ("s3", "gs", "abfs"):
            raise ImportError("Install adlfs to access Azure Datalake Gen2")
        return real(protocol)

    monkeypatch.setattr(fsspec, "get_filesystem_class", lacking)
    for ask in (
        RemoteStore().stat,
        RemoteStore().open,
        lambda at: RemoteStore().read([Span(at, 0, 1)]),
    ):
        with pytest.raises(UserError, match=said):
            ask(url)


def test_the_hub_is_asked_for_just_the_bytes_in_several_requests_at_once(monkeypatch):
    hub = pytest.importorskip("huggingface_hub.hf_file_system")
    asked, together = [], threading.Barrier(4, timeout=10)

    def resolve(self, path, **_):
        return hub.HfFileSystemResolvedRepositoryPath("dataset", "me/pairs", "main", path[-5:])

    def fetch(self, start, end):
        together.wait()
        asked.append((start, end))
        return bytes(end - start)

    monkeypatch.setattr(hub.HfFileSystem, "resolve_path", resolve)
    monkeypatch.setattr(hub.HfFileSystemFile, "_fetch_range", fetch)
    wanted = [Span("hf://datasets/me/pairs/0.tar", i, i + 5) for i in (0, 50, 70, 9000)]
    assert RemoteStore().read(wanted) == [bytes(5)] * 4
    assert sorted(asked) == [(span.start, span.end) for span in wanted]
