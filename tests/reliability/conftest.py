"""A small loop, and what it leaves when nothing befalls it."""

from __future__ import annotations

from pathlib import Path

import pytest
from starting import Start

from benchmarks.reliability.small_loop import lay_out
from benchmarks.reliability.what_is_left import what_is_left


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small loop's config; a run of it lies below the folder in which it is started."""
    return lay_out(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def whole(config: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What a run leaves that nobody stops."""
    folder = tmp_path_factory.mktemp("whole") / "life"
    folder.mkdir()
    start = Start(folder, "run", str(config))
    assert start.end() == 0, start.said
    return what_is_left(folder)
