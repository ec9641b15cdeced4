"""Reading in the worker processes of a data loader, forked and spawned."""

import gc
import os

import pytest
from torch.utils.data import DataLoader, Dataset

from selffilter.pool.stores import file_systems
from selffilter.pool.stores.find import Stores
from selffilter.pool.stores.store import Span


class Parts(Dataset):
    """Item i: ten bytes of each location, and the process that read them."""

    def __init__(self, locations):
        self.locations = locations
        self.stores = Stores()

    def __len__(self):
        return 12

    def __getitem__(self, item):
        spans = [Span(location, 10 * item, 10 * item + 10) for location in self.locations]
        return self.stores.read(spans), os.getpid()

    def __getstate__(self):
        return {**self.__dict__, "stores": Stores()}


def first(batch):
    return batch[0]


def read_in_workers(data, context):
    loader = DataLoader(data, num_workers=2, multiprocessing_context=context, collate_fn=first,
                        timeout=60)  # fmt: skip
    found = list(loader)
    assert len({process for _, process in found} - {os.getpid()}) == 2
    return [parts for parts, _ in found]


@pytest.fixture
def everywhere(server, shards):
    """The same shard on a disk, on a server and behind a pipe."""
    path = shards / "0.tar"
    return [str(path), f"{server.url}/0.tar", f"pipe:cat {path}"]


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_read_what_the_process_reads_that_has_read_before_and_reads_on(
    everywhere, content, context
):
    data = Parts(everywhere)
    expected = [[content["0.tar"][10 * i : 10 * i + 10]] * 3 for i in range(len(data))]
    assert [data[i][0] for i in range(len(data))] == expected
    for _ in range(2 if context == "fork" else 1):
        assert read_in_workers(data, context) == expected
        assert [data[i][0] for i in range(len(data))] == expected


def test_a_child_that_clears_up_does_not_take_its_parents_connections(server, content, monkeypatch):
    # What a child does when it collects the file systems of its parent made the parent wait for
    # ever: see file_systems.
    monkeypatch.setattr(file_systems, "SILENCE_S", 2.0)
    gc.collect()  # what other tests have left would be cleared up by the child
    stores, span = Stores(), Span(f"{server.url}/0.tar", 0, 10)
    assert stores.read([span]) == [content["0.tar"][:10]]
    child = os.fork()
    if child == 0:
        del stores
        gc.collect()
        right = Stores().read([span]) == [content["0.tar"][:10]]
        os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert stores.read([span] * 3) == [content["0.tar"][:10]] * 3
    assert server.count("/0.tar") == 1 + 1 + 3  # no answer was missed, and asked for again


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_read_from_s3(content, context):
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'selffilter[s3]'")
    pytest.importorskip("moto.server", reason="moto is not installed")
    import s3fs

    from benchmarks.pool.s3_server import S3Server

    with S3Server():
        files = s3fs.S3FileSystem(skip_instance_cache=True)
        files.mkdir("workers")
        files.pipe("workers/0.tar", content["0.tar"])
        data = Parts(["s3://workers/0.tar"])
        expected = [[content["0.tar"][10 * i : 10 * i + 10]] for i in range(len(data))]
        assert data[0][0] == expected[0]
        assert read_in_workers(data, context) == expected
        assert data[11][0] == expected[11]
