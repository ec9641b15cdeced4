"""The paper's table of kept fractions at n = 10,000 and eta = 0.3."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from selffilter.theory import plotting
from selffilter.theory.experiments.base import Effort, Experiment, by, column, select, table
from selffilter.theory.filtering import fit, keep_top, score_pool, teacher_student
from selffilter.theory.first_order import FirstOrder
from selffilter.theory.model import BimodalModel, Pool
from selffilter.theory.parallel import Row, run_tasks
from selffilter.theory.solution import representation_error

MODEL = BimodalModel(clean_share=0.3)
N = 10_000
FRACTIONS = (0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0)  # the published ones
EXTRA = (0.03, 0.6, 0.7, 0.8, 0.9)  # ours, to see the way between
# arXiv 2512.14230, table of kept fractions: mean and standard deviation of the error, x 1e-4.
PAPER_MEAN = (28.76, 11.79, 9.85, 9.08, 8.97, 8.71, 16.51)
PAPER_STD = (4.00, 1.20, 1.39, 1.15, 1.09, 1.05, 2.03)


def trial(seed: int) -> list[Row]:
    """Errors of both readings of Algorithm 1 on one pool, at every kept fraction."""
    pool = Pool(MODEL, N, seed)
    teacher = fit(pool)
    scores_n = score_pool(pool, teacher)
    rows: list[Row] = []
    for fraction in sorted(FRACTIONS + EXTRA):
        whole = fit(pool, keep_top(scores_n, fraction))
        halves = teacher_student(pool, keep_fraction=fraction, split=True)
        for version, learned in (("whole", whole), ("split", halves)):
            error = representation_error(learned, MODEL)
            rows.append({"version": version, "kept": fraction, "seed": seed, "error": error})
    return rows


def run(effort: Effort) -> list[Row]:
    """Compute the table."""
    return run_tasks(trial, range(effort.seeds), workers=effort.workers, label="table")


def within_spread(rows: list[Row]) -> list[bool]:
    """Tell for each fraction whether our mean lies within the paper's standard deviation of its."""
    ours = [
        1e4 * np.mean(column(select(rows, version="whole", kept=fraction), "error"))
        for fraction in FRACTIONS
    ]
    spread = zip(ours, PAPER_MEAN, PAPER_STD, strict=True)
    return [bool(abs(our - mean) <= std) for our, mean, std in spread]


def figure(rows: list[Row]) -> Figure:
    """Error against kept fraction: paper, both readings, first-order theory."""
    fig, (axes,) = plotting.new_figure(6.8, 4.2)
    theory = FirstOrder(MODEL)
    grid = np.linspace(0.01, 1, 60)
    for version, colour, name, dy in (
        ("split", "red", "teacher on one half, filter on the other", 26),
        ("whole", "blue", "teacher and filter on all n pairs", -38),
    ):
        x, values = by(select(rows, version=version), "kept", "error")
        plotting.band(axes, x, [[1e4 * v for v in vs] for vs in values], colour=colour)
        plotting.label_line(axes, name, (0.16, 1e4 * float(np.mean(values[2]))), colour, (0, dy))
        n = N if version == "whole" else N // 2
        axes.plot(
            grid,
            [1e4 * theory.kept_fraction(f, n) for f in grid],
            color=plotting.COLOURS[colour],
            ls=":",
            lw=1.2,
        )
    axes.errorbar(
        FRACTIONS,
        PAPER_MEAN,
        PAPER_STD,
        fmt="s",
        color="black",
        capsize=3,
        ms=5,
        mfc="white",
        zorder=5,
    )
    floor = 1e4 * theory.floor(N)
    axes.axhline(floor, color=plotting.COLOURS["grey"], lw=1, ls="--")
    plotting.label_line(
        axes,
        "no filter can do better (first order, all n pairs)",
        (1.0, floor),
        "grey",
        (0, -8),
        ha="right",
    )
    plotting.label_line(axes, "squares: published mean ± sd", (0.03, 30.5), "black", (4, 8))
    plotting.label_line(
        axes, "dotted: first-order theory with a perfect teacher", (0.16, 40), "grey"
    )
    axes.set(
        xlabel="kept fraction of the filtered rows",
        ylabel="error ‖sin Θ‖ (×10⁻⁴)",
        ylim=(0, 46),
        title=f"The published table is the algorithm without the split (n = {N:,}, η = 0.3)",
    )
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return fig


def text(rows: list[Row]) -> str:
    """The table in Markdown, with what it says."""

    def line(version: str) -> tuple[list[str], list[str]]:
        cells = [
            np.array(column(select(rows, version=version, kept=f), "error")) * 1e4
            for f in FRACTIONS
        ]
        return [f"{c.mean():.2f}" for c in cells], [f"{c.std(ddof=1):.2f}" for c in cells]

    (whole, whole_std), (split, split_std) = line("whole"), line("split")
    theory = FirstOrder(MODEL)
    body = [
        ["paper, mean", *(f"{v:.2f}" for v in PAPER_MEAN)],
        ["paper, sd", *(f"{v:.2f}" for v in PAPER_STD)],
        ["all n pairs for both, mean", *whole],
        ["all n pairs for both, sd", *whole_std],
        ["half split, mean", *split],
        ["half split, sd", *split_std],
        ["first-order theory", *(f"{1e4 * theory.kept_fraction(f, N):.2f}" for f in FRACTIONS)],
    ]
    inside = sum(within_spread(rows))
    return (
        f"Error ×1e-4; {len(select(rows, version='whole', kept=1.0))} seeds.\n\n"
        + table(["kept", *(f"{f:.0%}" for f in FRACTIONS)], body)
        + f"\n\n{inside} of {len(FRACTIONS)} fractions lie within the published standard deviation "
        "of the published mean when teacher and filter use the same n pairs. With the half split "
        "every error is about √2 larger: half the data is spent on the teacher, and a teacher "
        "this good does not need it. (In the split rows, 100 % is training on the second half.)"
    )


EXPERIMENT = Experiment(
    name="table",
    title="Kept fractions (the published table)",
    question="Which kept fraction is best at n = 10,000, eta = 0.3, and is the data split?",
    seeds=100,
    minutes=0.1,
    run=run,
    figure=figure,
    text=text,
)
