"""Kept fraction against clean share: the map for choosing ``keep_fraction`` [ours]."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from selffilter.theory import plotting
from selffilter.theory.experiments.base import Effort, Experiment, median_of, select, table, unique
from selffilter.theory.filtering import fit, fit_nested, score_pool
from selffilter.theory.loop import LoopSettings, self_filter
from selffilter.theory.model import BimodalModel, Pool
from selffilter.theory.parallel import Row, run_tasks
from selffilter.theory.solution import representation_error

N = 10_000
ETAS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
FRACTIONS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
WEAK = BimodalModel(50, 40, 4, 1.0, 1.0)
PANELS = {
    "one pass, small noise (γ = 10⁴)": (BimodalModel(), 0),
    "one pass, large noise (γ = 1, d = 50)": (WEAK, 0),
    "loop, 5 rounds, 20 % random, large noise": (WEAK, 5),
}


def trial(task: tuple[str, float, int]) -> list[Row]:
    """Errors of all kept fractions on one pool."""
    name, eta, seed = task
    base, rounds = PANELS[name]
    model = replace(base, clean_share=eta)
    pool = Pool(model, N, seed)
    if rounds:
        learned = [
            self_filter(pool, LoopSettings(f, 0.2, rounds, signal="cosine"))[-1].learner
            for f in FRACTIONS
        ]
    else:
        learned = fit_nested(pool, score_pool(pool, fit(pool), "cosine"), FRACTIONS)
    return [
        {"panel": name, "eta": eta, "kept": fraction, "seed": seed,
         "error": representation_error(each, model)}
        for fraction, each in zip(FRACTIONS, learned, strict=True)
    ]  # fmt: skip


def run(effort: Effort) -> list[Row]:
    """Fill the map."""
    tasks = [
        (name, eta, seed)
        for name, (_, rounds) in PANELS.items()
        for eta in ETAS
        for seed in range(max(2, effort.seeds // 4) if rounds else effort.seeds)
    ]
    return run_tasks(trial, tasks, workers=effort.workers, label="map")


def grid(rows: list[Row], panel: str) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return median errors (kept fractions, clean shares) over the best of each clean share."""
    found = select(rows, panel=panel)
    errors = np.array(
        [[median_of(select(found, eta=eta, kept=kept)) for eta in ETAS] for kept in FRACTIONS]
    )
    return np.asarray(errors / errors.min(axis=0))


def figure(rows: list[Row]) -> Figure:
    """Maps of error over the best error of the column; the best fraction and near ties marked."""
    fig, panels = plotting.new_figure(12, 4.4, columns=3)
    for axes, name in zip(panels, PANELS, strict=True):
        ratio = grid(rows, name)
        axes.grid(False)
        image = axes.imshow(
            np.minimum(ratio, 2.5), origin="lower", cmap="viridis_r", vmin=1, vmax=2.5,
            aspect="auto",
        )  # fmt: skip
        for j in range(len(ETAS)):
            for i in range(len(FRACTIONS)):
                best = ratio[i, j] == 1
                if best or ratio[i, j] < 1.05:
                    axes.plot(
                        j, i, "o", ms=7 if best else 3, mfc="white" if best else "black",
                        color="black",
                    )  # fmt: skip
        # kept = eta, for comparison; the axes are categories, so interpolate into them.
        axes.plot(
            range(len(ETAS)), np.interp(ETAS, FRACTIONS, range(len(FRACTIONS))), color="white",
            lw=1.6, ls="--",
        )  # fmt: skip
        axes.set_xticks(range(len(ETAS)), [f"{eta:g}".removeprefix("0") for eta in ETAS])
        axes.set_yticks(range(len(FRACTIONS)), [f"{f:.0%}" for f in FRACTIONS])
        axes.set_xlabel("clean share η")
        axes.set_title(name, fontsize=9.5)
    panels[0].set_ylabel("kept fraction")
    bar = fig.colorbar(image, ax=panels, pad=0.01)
    bar.set_label("error / best error at this η (2.5 and more: dark)")
    fig.supxlabel(
        "large circle: best; small: within 5 %; dashed: kept fraction = clean share", fontsize=9
    )
    return fig


def text(rows: list[Row]) -> str:
    """Best fraction and the loss at 0.4, in Markdown."""
    parts = []
    for name in PANELS:
        ratio = grid(rows, name)
        body = []
        for j, eta in enumerate(ETAS):
            near = [f for i, f in enumerate(FRACTIONS) if ratio[i, j] < 1.05]
            at = float(np.interp(eta, FRACTIONS, ratio[:, j]))
            body.append(
                [
                    eta, f"{FRACTIONS[int(np.argmin(ratio[:, j]))]:.0%}",
                    f"{min(near):.0%} to {max(near):.0%}",
                    f"{100 * (ratio[FRACTIONS.index(0.3), j] - 1):.0f} %",
                    f"{100 * (ratio[FRACTIONS.index(0.4), j] - 1):.0f} %",
                    f"{100 * (at - 1):.0f} %",
                ]
            )  # fmt: skip
        header = [
            "η",
            "best kept",
            "within 5 %",
            "loss at 30 %",
            "loss at 40 %",
            "loss at kept = η",
        ]
        seeds = len(unique(select(rows, panel=name), "seed"))
        parts.append(f"**{name}** ({seeds} seeds)\n\n{table(header, body)}")
    return (
        f"n = {N:,}, cosine score, median errors; the last column keeps {FRACTIONS[0]:.0%} where "
        "η is smaller.\n\n" + "\n\n".join(parts)
    )


EXPERIMENT = Experiment(
    name="map",
    title="How much to keep",
    question="Which kept fraction for which clean share?",
    seeds=24,
    minutes=0.8,
    run=run,
    figure=figure,
    text=text,
)
