"""Figures: names that can be read, and a picture on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from selffilter.experiments.figures import looks, pool_figure
from selffilter.theory.plotting import save, spaced


def test_names_that_are_far_apart_stay_where_they_are() -> None:
    assert spaced([0.1, 0.5, 0.9], 0.1) == [0.1, 0.5, 0.9]


def test_names_that_would_overlap_move_apart_around_their_middle() -> None:
    assert spaced([0.5, 0.5, 0.9], 0.1) == pytest.approx([0.45, 0.55, 0.9])


def test_blocks_that_meet_become_one() -> None:
    moved = spaced([0.48, 0.5, 0.52, 0.6], 0.1)
    assert moved == pytest.approx([0.375, 0.475, 0.575, 0.675])


def test_names_stay_beside_the_panel() -> None:
    assert spaced([-0.3, 0.01, 1.2], 0.1) == pytest.approx([0.0, 0.1, 1.0])
    assert spaced([0.97, 0.98, 1.0], 0.1) == pytest.approx([0.8, 0.9, 1.0])


def test_no_two_methods_look_alike() -> None:
    methods = ["loop", "uniform", "oracle", *(f"m{i}" for i in range(12))]
    found = looks(methods)
    assert len({(look.colour, look.dashes, look.marker) for look in found.values()}) == len(methods)


@pytest.mark.parametrize("known", [True, False])
def test_there_are_panels_for_what_was_measured(known: bool, tmp_path: Path) -> None:
    axes = {"pool": "p", "set": "s", "metric": "acc1"}
    results = [
        axes | {"method": m, "seed": s, "value": 0.1 * s}
        for m in ("loop", "uniform")
        for s in (0, 1)
    ]
    rounds = [
        axes | {"method": "loop", "seed": 0, "round": r, "samples_seen": 1000 * r, "value": 0.1 * r}
        for r in (0, 1)
    ]
    if known:
        rounds += [r | {"set": None, "metric": "auc"} for r in rounds]
    figure = pool_figure(
        results,
        rounds,
        pool="p",
        set_="s",
        metric="acc1",
        methods=["loop", "uniform"],
        scored_by_themselves=["loop"],
    )
    assert len(figure.axes) == (4 if known else 2)
    save(figure, tmp_path, "p")
    assert (tmp_path / "p.png").stat().st_size > 10_000
    written = (tmp_path / "p.svg").read_text()
    assert ">loop<" in written
    assert ">uniform<" in written
