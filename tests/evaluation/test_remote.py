"""Sets at URLs: fsspec's memory:// and a web server on this machine."""

import functools
import http.server
import threading

import fsspec
import pytest

from selffilter import patience
from selffilter.errors import UserError
from selffilter.evaluation.evaluate import EvaluationSettings, evaluate
from selffilter.evaluation.remote import RemoteFolder
from selffilter.evaluation.sets import EvaluationSet


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.0)


@pytest.fixture
def in_memory(drawings_set):
    files = fsspec.filesystem("memory")
    files.put(str(drawings_set), "/sets/drawings", recursive=True)
    yield "memory://sets/drawings"
    files.rm("/sets", recursive=True)


class Handler(http.server.SimpleHTTPRequestHandler):
    failures: dict[str, int] = {}  # noqa: RUF012
    asked: list[str] = []  # noqa: RUF012

    def do_GET(self):
        self.asked.append(self.path)
        if self.failures.get(self.path, 0) > 0:
            self.failures[self.path] -= 1
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(drawings_set):
    Handler.failures, Handler.asked = {}, []
    handler = functools.partial(Handler, directory=str(drawings_set.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def results(model, recipe, location, **settings):
    found = evaluate(model, recipe, EvaluationSet(location), EvaluationSettings(**settings))
    return found.set, found.metrics, found.samples, found.unusable


def test_where_a_set_lies_does_not_change_what_is_found(
    model, recipe, drawings_set, in_memory, server
):
    expected = results(model, recipe, str(drawings_set))
    assert results(model, recipe, in_memory) == expected
    assert results(model, recipe, f"{server}/drawings/") == expected
    assert results(model, recipe, f"{server}/drawings", workers=1) == expected


def test_size_and_name_are_those_of_the_folder(drawings_set, in_memory, server):
    local = EvaluationSet(str(drawings_set))
    for location in (in_memory, f"{server}/drawings"):
        there = EvaluationSet(location)
        assert (there.name, there.total_bytes) == ("drawings", local.total_bytes)
        assert there.classnames == local.classnames
    assert EvaluationSet(f"mine={server}/drawings").name == "mine"


def test_a_passing_fault_is_tried_again(model, recipe, drawings_set, server):
    Handler.failures = {"/drawings/classnames.txt": 2, "/drawings/test/1.tar": 3}
    assert results(model, recipe, f"{server}/drawings") == results(model, recipe, str(drawings_set))
    assert Handler.asked.count("/drawings/test/1.tar") == 4


def test_a_lasting_fault_ends_in_a_sentence(server):
    Handler.failures = {"/drawings/classnames.txt": 99}
    with pytest.raises(UserError, match=r"classnames\.txt cannot be read, after 4 attempts.*503"):
        EvaluationSet(f"{server}/drawings")


def test_what_is_not_there_is_refused_by_name(server, in_memory, drawings_set):
    for location in (f"{server}/nowhere", "memory://sets/nowhere"):
        with pytest.raises(UserError, match="nowhere is not an evaluation set"):
            EvaluationSet(location)
    assert Handler.asked.count("/nowhere/classnames.txt") == 1
    (drawings_set / "test" / "1.tar").unlink()
    with pytest.raises(UserError, match=r"nshards\.txt says 2, but test/1\.tar is not there"):
        EvaluationSet(f"{server}/drawings")


@pytest.mark.parametrize("url", ["nonesuch://a/b", "pipe://rm -r x"])
def test_a_protocol_that_nobody_knows_is_refused(url):
    with pytest.raises(UserError, match="no file system is known"):
        EvaluationSet(url)


def test_a_fetched_shard_does_not_stay(in_memory, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(tmp_path.iterdir())
    list(EvaluationSet(in_memory).batches(_zeros, batch_size=8, workers=0, max_pixels=10**6))
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "page",
    [
        "https://huggingface.co/datasets/someone/wds_cars_test",
        "https://huggingface.co/datasets/someone/wds_cars_test/tree/main/",
        "https://huggingface.co/datasets/someone/wds_cars_test/resolve/main",
    ],
)
def test_a_page_of_the_hub_stands_for_its_files(page):
    folder = RemoteFolder(page)
    assert folder.name == "wds_cars_test"
    assert folder.url == "https://huggingface.co/datasets/someone/wds_cars_test/resolve/main"


def _zeros(_):
    import torch

    return torch.zeros(3, 2, 2)
