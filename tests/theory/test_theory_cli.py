"""The command leaves what it promises, the same for any number of processes."""

import csv

import numpy as np
import pytest

from selffilter.theory.cli import main, run_theory
from selffilter.theory.experiments import EXPERIMENTS, REPRODUCTION, Effort, self_filtering


def test_a_run_leaves_figure_numbers_and_report(tmp_path):
    report = run_theory(tmp_path, experiments=["table", "spectrum"], seeds=2, quick=True)
    for name in ("table", "spectrum"):
        for ending in ("png", "svg", "csv"):
            path = tmp_path / f"{name}.{ending}"
            assert path.stat().st_size > 1000
        assert f"![{EXPERIMENTS[name].title}]({name}.png)" in report.read_text("utf-8")
    with (tmp_path / "table.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 12 * 2
    assert all(0 < float(row["error"]) < 0.1 for row in rows)


def test_processes_do_not_change_the_numbers():
    alone, shared = (
        EXPERIMENTS["table"].run(Effort(seeds=2, workers=workers, quick=True)) for workers in (1, 2)
    )
    # To rounding: a worker's linear algebra has one thread, this process' may have more.
    for one, other in zip(alone, shared, strict=True):
        assert one == other | {"error": pytest.approx(other["error"], rel=1e-8)}


def test_the_default_is_the_reproduction():
    assert [each.name for each in REPRODUCTION] == ["table", "eta", "n", "histograms"]
    assert list(EXPERIMENTS)[:4] == ["table", "eta", "n", "histograms"]


def test_loop_rows_hold_every_round():
    name = next(iter(self_filtering.SETTINGS))
    rows = self_filtering.trial((name, 0))
    rounds = [row["round"] for row in rows if row["arm"] == "20 % random"]
    assert rounds == list(range(self_filtering.ROUNDS + 1))
    assert np.isfinite([row["error"] for row in rows]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tabel"], "no experiment is called tabel"),
        (["--seeds", "1"], "seeds=1"),
        (["--workers", "0"], "workers=0"),
    ],
)
def test_mistakes_end_in_one_sentence(tmp_path, capsys, arguments, message):
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
