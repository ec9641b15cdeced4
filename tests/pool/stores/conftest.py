"""Shards in a folder, and servers of them on this machine."""

import contextlib

import numpy as np
import pytest

from benchmarks.pool.serving import FolderServer
from selffilter import patience
from selffilter.pool.stores import file_systems


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.0)


@pytest.fixture(autouse=True)
def own_file_systems(monkeypatch):
    """File systems of this test alone, so that each may have its own settings."""
    monkeypatch.setattr(file_systems, "_opened", {})


@pytest.fixture
def content():
    """Return what stands in the shards of `shards`: name → bytes."""
    draw = np.random.default_rng(0)
    return {f"{i}.tar": draw.bytes(size) for i, size in enumerate((40_000, 1_000, 7))}


@pytest.fixture
def shards(tmp_path, content):
    folder = tmp_path / "shards"
    folder.mkdir()
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def serve(shards):
    """Return a function that serves the shards; its arguments are those of `FolderServer`."""
    with contextlib.ExitStack() as stack:
        yield lambda **how: stack.enter_context(FolderServer(shards, **how))


@pytest.fixture
def server(serve):
    return serve()
