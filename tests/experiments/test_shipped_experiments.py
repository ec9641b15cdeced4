"""Every shipped experiment: it loads, its methods are there, its head says what runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from selffilter.experiments.grid import expand
from selffilter.experiments.schema import read_experiment

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "experiments"
ALL = sorted(FOLDER.glob("*.yaml"))


def test_there_is_one_that_runs_on_what_comes_with_the_package() -> None:
    assert all(pool.demo for pool in read_experiment(FOLDER / "demo.yaml").pools)


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_it_loads_and_its_head_says_which_command_runs_it(path: Path) -> None:
    experiment = read_experiment(path)
    assert experiment.name == path.stem
    assert len(expand(experiment)) >= len(experiment.methods) * len(experiment.seeds)
    head = "".join(line for line in path.read_text().splitlines(True) if line.startswith("#"))
    assert f"selffilter experiment configs/experiments/{path.name}" in head
    assert "came out" in head
