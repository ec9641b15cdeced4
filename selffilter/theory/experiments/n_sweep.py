"""Error against the pool size: slope -1/2 with and without a filter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from selffilter.theory import plotting
from selffilter.theory.bounds import paper_filtered_rate, paper_unfiltered_rate
from selffilter.theory.experiments.base import (
    Effort,
    Experiment,
    by,
    log_slope,
    median_of,
    select,
    table,
    unique,
)
from selffilter.theory.experiments.eta_sweep import trial
from selffilter.theory.first_order import FirstOrder
from selffilter.theory.model import BimodalModel
from selffilter.theory.parallel import Row, run_tasks

MODEL = BimodalModel()
ETAS = (0.3, 0.03)
SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000)
# Below eta * sqrt(n) of about 4 the teacher's smallest singular value drowns in sampling noise and
# no rate holds; slopes are fitted above.
ASYMPTOTIC = 4.0


def run(effort: Effort) -> list[Row]:
    """Sweep the pool size at two clean shares."""
    sizes = SIZES[:-1] if effort.quick else SIZES
    tasks = [(eta, n, seed) for eta in ETAS for n in sizes for seed in range(effort.seeds)]
    return run_tasks(trial, tasks, workers=effort.workers, label="n")


def slopes(rows: list[Row]) -> dict[tuple[float, str], float]:
    """Log-log slope of the median error for each clean share and arm, where eta * sqrt(n) > 4."""
    out = {}
    for eta in ETAS:
        for arm in ("unfiltered", "filtered", "clean only"):
            found = select(rows, eta=eta, arm=arm)
            sizes = [n for n in unique(found, "n") if eta * n**0.5 > ASYMPTOTIC]
            out[eta, arm] = log_slope(sizes, [median_of(select(found, n=n)) for n in sizes])
    return out


def figure(rows: list[Row]) -> Figure:
    """One panel a clean share."""
    fig, panels = plotting.new_figure(9.6, 4.4, columns=2)
    fitted = slopes(rows)
    for axes, eta in zip(panels, ETAS, strict=True):
        model = replace(MODEL, clean_share=eta)
        for arm, colour, dy in (
            ("unfiltered", "red", 3),
            ("filtered", "blue", -8),
            ("clean only", "green", 5),
        ):
            x, values = by(select(rows, eta=eta, arm=arm), "n", "error")
            plotting.quartile_band(axes, x, values, colour=colour)
            plotting.label_line(
                axes,
                f"{arm} ({fitted[eta, arm]:.2f})",
                (x[-1], float(np.median(values[-1]))),
                colour,
                (7, dy),
            )
        grid = np.array(unique(rows, "n"))
        theory = FirstOrder(model)
        axes.plot(grid, [theory.floor(int(n)) for n in grid], "--", color=plotting.COLOURS["grey"])
        plotting.label_line(axes, "floor", (grid[0], theory.floor(int(grid[0]))), "grey", (0, -9))
        for rate in (paper_unfiltered_rate, paper_filtered_rate):
            bound = [rate(model, int(n)) for n in grid]
            axes.plot(grid, bound, color="black", lw=0.9)
            plotting.label_line(
                axes,
                "bound, " + ("unfiltered" if rate is paper_unfiltered_rate else "filtered"),
                (grid[-1], bound[-1]),
                "black",
                (7, 0),
            )
        axes.set(
            xscale="log",
            yscale="log",
            xlabel="pairs n",
            xlim=(8e2, grid[-1] * 20),
            ylim=(4e-5, 30),
            title=f"η = {eta} (fitted slopes in brackets)",
        )
        axes.set_xticks([1e3, 1e4, 1e5])
    panels[0].set_ylabel("error ‖sin Θ‖")
    return fig


def text(rows: list[Row]) -> str:
    """Slopes in Markdown."""
    fitted = slopes(rows)
    body = [
        [eta, *(f"{fitted[eta, arm]:.3f}" for arm in ("unfiltered", "filtered", "clean only"))]
        for eta in ETAS
    ]
    sizes = unique(rows, "n")
    return (
        f"Slopes of log error against log n, n from {sizes[0]:,.0f} to {sizes[-1]:,.0f} "
        f"where η√n > {ASYMPTOTIC:.0f} (the bounds say −1/2):\n\n"
        + table(["η", "unfiltered", "filtered (θ = 0)", "clean only"], body)
        + "\n\nBelow that size (left part of the right panel) the teacher is sometimes broken and "
        "the errors scatter: bands are quartiles over seeds, lines medians."
    )


EXPERIMENT = Experiment(
    name="n",
    title="Error against the pool size",
    question="Does more data help at the rate 1/sqrt(n), with and without a filter?",
    seeds=10,
    minutes=0.2,
    run=run,
    figure=figure,
    text=text,
)
