import os
import pickle
import resource
import threading

import pytest

from selffilter.pool.stores import local
from selffilter.pool.stores.local import LocalStore
from selffilter.pool.stores.store import Span


def open_files():
    """Return how many shards this process has open."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{fd}").endswith(".tar")
        except OSError:
            continue
    return found


@pytest.fixture
def many(tmp_path):
    """Twenty shards of three bytes each, and what stands in them."""
    content = {str(tmp_path / f"{i}.tar"): f"{i:03d}".encode() for i in range(20)}
    for location, data in content.items():
        with open(location, "wb") as file:
            file.write(data)
    return content


def test_spans_come_in_the_order_asked_whatever_that_is(shards, content):
    wanted = [("0.tar", 100, 300), ("1.tar", 0, 1000), ("0.tar", 0, 40_000), ("0.tar", 250, 260),
              ("2.tar", 7, 7), ("0.tar", 100, 300)]  # fmt: skip
    found = LocalStore().read([Span(str(shards / name), a, b) for name, a, b in wanted])
    assert found == [content[name][a:b] for name, a, b in wanted]
    assert LocalStore().read([]) == []


def test_size_and_tag_tell_a_changed_shard_from_the_old_one(shards, content):
    path = shards / "1.tar"
    before = LocalStore().stat(str(path))
    assert before.size == 1000
    assert LocalStore().stat(str(path)) == before
    os.utime(path, (1, 1))
    after = LocalStore().stat(str(path))
    assert after.size == before.size
    assert after.tag != before.tag


def test_a_shard_can_be_scanned(shards, content):
    with LocalStore().open(str(shards / "0.tar")) as stream:
        stream.seek(30_000)
        assert stream.read(10) == content["0.tar"][30_000:30_010]


def test_few_files_stay_open_and_all_can_be_read(many, monkeypatch):
    monkeypatch.setattr(local, "_MOST_FILES", 3)
    store, before = LocalStore(), open_files()
    spans = [Span(location, 1, 3) for location in many]
    for _ in range(2):
        assert store.read(spans) == [data[1:] for data in many.values()]
        assert open_files() == before + 3
    del store
    assert open_files() == before


def test_a_file_that_is_read_often_stays_open(many, monkeypatch):
    monkeypatch.setattr(local, "_MOST_FILES", 2)
    store, opened = LocalStore(), []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, flags: opened.append(path) or real(path, flags))
    first, *others = many
    for location in others:
        store.read([Span(first, 0, 1), Span(location, 0, 1)])
    assert opened.count(first) == 1


@pytest.mark.parametrize("limit", [resource.RLIM_INFINITY, 2, 64])
def test_any_limit_of_open_files_is_kept_to(many, monkeypatch, limit):
    monkeypatch.setattr(local.resource, "getrlimit", lambda _: (limit, limit))
    store, before = LocalStore(), open_files()
    assert store.read([Span(location, 0, 3) for location in many]) == list(many.values())
    assert open_files() - before == {2: 1, 64: 16}.get(limit, 20)


def test_threads_share_a_store_while_files_are_closed_and_opened(many, monkeypatch):
    monkeypatch.setattr(local, "_MOST_FILES", 1)
    store, wrong = LocalStore(), []

    def read(shift):
        locations = list(many)
        for i in range(400):
            location = locations[(i * shift) % len(locations)]
            if store.read([Span(location, 0, 3)]) != [many[location]]:
                wrong.append(location)

    def caught(shift):
        try:
            read(shift)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=caught, args=(shift,)) for shift in (1, 3, 7, 11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_child_reads_with_the_files_of_its_parent(shards, content):
    store = LocalStore()
    spans = [Span(str(shards / "0.tar"), i, i + 5) for i in range(0, 40_000, 400)]
    store.read(spans[:1])
    child = os.fork()
    if child == 0:
        right = store.read(spans) == [content["0.tar"][span.start : span.end] for span in spans]
        os._exit(0 if right else 1)
    assert store.read(spans) == [content["0.tar"][span.start : span.end] for span in spans]
    assert os.waitpid(child, 0)[1] == 0
    assert store.read(spans[:1])


def test_a_copy_for_another_process_has_no_open_files(shards):
    store = LocalStore()
    store.read([Span(str(shards / "0.tar"), 0, 1)])
    before = open_files()
    copy = pickle.loads(pickle.dumps(store))
    assert open_files() == before
    assert copy.read([Span(str(shards / "2.tar"), 0, 1)])


def test_a_shard_that_is_not_there_is_missing_and_named(shards):
    location = str(shards / "none.tar")
    for ask in (
        lambda: LocalStore().read([Span(location, 0, 1)]),
        lambda: LocalStore().stat(location),
        lambda: LocalStore().open(location),
    ):
        with pytest.raises(FileNotFoundError, match=r"none\.tar"):
            ask()


def test_a_shard_that_became_shorter_is_a_fault_that_says_so(shards):
    location = str(shards / "0.tar")
    store = LocalStore()
    store.read([Span(location, 39_000, 40_000)])
    os.truncate(location, 39_500)
    with pytest.raises(OSError, match=r"0\.tar: it ends at byte 39500, before byte 40000.*shorter"):
        store.read([Span(location, 39_000, 40_000)])


def test_a_shard_that_was_put_back_is_read_again(shards, content, monkeypatch):
    path = shards / "0.tar"
    store = LocalStore()
    store.read([Span(str(path), 0, 5)])
    os.truncate(path, 10)

    def put_back(_):
        path.unlink()  # a new file: what was open is the old one
        path.write_bytes(content["0.tar"])

    monkeypatch.setattr("selffilter.patience.time.sleep", put_back)
    assert store.read([Span(str(path), 20, 30)]) == [content["0.tar"][20:30]]


def test_a_fault_of_the_device_names_the_shard(shards, monkeypatch):
    def fail(*_):
        raise OSError(5, "Input/output error")

    store = LocalStore()
    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(OSError, match=r"0\.tar: .*Input/output error"):
        store.read([Span(str(shards / "0.tar"), 0, 5)])


def test_all_spans_of_a_call_are_announced_before_the_first_is_read(shards, content, monkeypatch):
    done = []
    fadvise, pread = os.posix_fadvise, os.pread
    monkeypatch.setattr(os, "posix_fadvise", lambda *a: done.append("tell") or fadvise(*a))
    monkeypatch.setattr(os, "pread", lambda *a: done.append("read") or pread(*a))
    spans = [Span(str(shards / "0.tar"), 5, 50), Span(str(shards / "1.tar"), 0, 10)]
    found = LocalStore().read(spans)
    assert found == [content["0.tar"][5:50], content["1.tar"][:10]]
    assert done == ["tell", "tell", "read", "read"]
