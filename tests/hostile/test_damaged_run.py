"""A run whose records are damaged: each command says which file, or does not need it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from test_end_to_end import home, whole

from selffilter.store import RunStore

__all__ = ["home", "whole"]

COMMANDS = ("status", "report", "compare", "why", "run")
NEEDED_BY = {
    "environment.json": {"report", "compare", "why", "run"},
    "rounds/001/train/summary.json": {"status", "report", "compare", "run"},
    "rounds/001/scores/summary.json": {"status", "report", "compare", "why", "run"},
    "rounds/001/selection/summary.json": {"status", "report", "compare", "why", "run"},
    "rounds/001/selection/about/histograms.json": {"report"},
    "rounds/001/metrics.jsonl": set(),  # what cannot be read of it is left out
    "final/compute.json": {"report", "compare"},
}


@pytest.fixture
def damaged(whole: RunStore, tmp_path: Path) -> Callable[[str, bytes], Path]:
    """Return what copies the run, with another content of a file; a half of it for ``half``."""

    def damage(name: str, content: bytes) -> Path:
        run = tmp_path / "runs" / "whole"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(whole.root, run)
        path = run / name
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] if content == b"half" else content)
        return run

    return damage


def words_of(command: str, run: Path, other: Path) -> list[object]:
    """Return how a command is called; a run is to go on, its last selection done again."""
    if command == "run":
        shutil.rmtree(run / "final")
        shutil.rmtree(run / "rounds" / "002" / "selection")
        config = run.parent.parent / "whole.yaml"
        config.write_text((run / "config.yaml").read_text())
        return ["run", config, f"runs_dir={run.parent}", "--quiet"]
    more: dict[str, list[object]] = {
        "report": ["--samples", 0], "compare": [other], "why": ["--row", 1]
    }  # fmt: skip
    return [command, run, *more.get(command, [])]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", NEEDED_BY)
def test_a_command_that_needs_a_damaged_record_names_it(
    name: str, command: str, damaged: Callable[[str, bytes], Path], whole: RunStore,
    call: Callable[..., tuple[int, str, str]],
) -> None:  # fmt: skip
    for content in (b"half", b"[]"):
        code, _, said = call(*words_of(command, damaged(name, content), whole.root))
        if command not in NEEDED_BY[name]:
            assert code == 0, said
        else:
            assert code == 2
            assert name in "".join(said.split())
    # What is an object may lack what a command does not look for; it is no crash in any case.
    code, _, said = call(*words_of(command, damaged(name, b"{}"), whole.root))
    assert code == 0 or (code == 2 and f"{name} has no" in " ".join(said.split())), said
