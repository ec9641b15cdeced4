"""What a teacher's scores look like for clean and mismatched pairs."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from selffilter.theory import plotting
from selffilter.theory.experiments.base import Effort, Experiment, column, select, table
from selffilter.theory.filtering import fit, score_pool
from selffilter.theory.model import Array, BimodalModel, Mask, Pool
from selffilter.theory.parallel import Row, run_tasks
from selffilter.theory.threshold import estimate_clean_share, half_mean_threshold

SETTINGS: dict[str, BimodalModel] = {
    "η = 0.3, small noise (γ = 10⁴)": BimodalModel(clean_share=0.3),
    "η = 0.03, small noise (γ = 10⁴)": BimodalModel(clean_share=0.03),
    "η = 0.3, large noise (γ = 1, d = 50, d̃ = 40)": BimodalModel(
        image_dim=50, text_dim=40, image_gamma=1.0, text_gamma=1.0, clean_share=0.3
    ),
}
N = 100_000
EDGES = np.linspace(-6, 12, 91)


def auc(scores_n: Array, clean_n: Mask) -> float:
    """Return the probability that a clean pair scores above a mismatched one."""
    ranks_n = np.empty(scores_n.size)
    ranks_n[np.argsort(scores_n)] = np.arange(1, scores_n.size + 1)
    clean = int(clean_n.sum())
    rank_sum = ranks_n[clean_n].sum() - clean * (clean + 1) / 2
    return float(rank_sum / (clean * (scores_n.size - clean)))


def trial(task: tuple[str, int]) -> list[Row]:
    """Histogram of one teacher's scores on the pool it was trained on, clean and mismatched."""
    name, seed = task
    pool = Pool(SETTINGS[name], N, seed)
    scores_n = score_pool(pool, fit(pool))
    clean_n = pool.all().clean_n
    # In units of 1/r of the mean score of clean pairs: there <z, z'> has mean r.
    unit = scores_n[clean_n].mean() / pool.model.rank
    shared: Row = {
        "setting": name,
        "seed": seed,
        "auc": auc(scores_n, clean_n),
        "cut": half_mean_threshold(scores_n) / unit,
        "estimated_eta": estimate_clean_share(scores_n),
    }
    rows: list[Row] = []
    for kind, chosen_n in (("clean", clean_n), ("mismatched", ~clean_n)):
        counts = np.histogram(scores_n[chosen_n] / unit, EDGES)[0] / N / np.diff(EDGES)
        rows += [
            {**shared, "kind": kind, "score": float(score), "density": float(density)}
            for score, density in zip((EDGES[1:] + EDGES[:-1]) / 2, counts, strict=True)
        ]
    return rows


def run(effort: Effort) -> list[Row]:
    """Compute the histograms."""
    tasks = [(name, seed) for name in SETTINGS for seed in range(effort.seeds)]
    return run_tasks(trial, tasks, workers=effort.workers, label="histograms")


def figure(rows: list[Row]) -> Figure:
    """One panel a setting, from the first seed."""
    fig, panels = plotting.new_figure(10.5, 3.4, columns=3)
    for axes, name in zip(panels, SETTINGS, strict=True):
        found = select(rows, setting=name, seed=0)
        for kind, colour in (("mismatched", "grey"), ("clean", "blue")):
            part = select(found, kind=kind)
            x, y = column(part, "score"), column(part, "density")
            axes.fill_between(x, y, step="mid", color=plotting.COLOURS[colour], alpha=0.55, lw=0)
            at = int(np.argmax(y)) + (12 if kind == "clean" else -3)
            plotting.label_line(
                axes,
                kind,
                (x[at], y[at]),
                colour,
                (4, 8) if kind == "clean" else (-2, 6),
                ha="left" if kind == "clean" else "right",
            )
        cut = float(found[0]["cut"])
        axes.axvline(cut, color=plotting.COLOURS["red"], lw=1.2)
        top = max(column(found, "density"))
        plotting.label_line(axes, "half-mean cut", (cut, 0.97 * top), "red", (4, 0))
        axes.set_title(name, fontsize=9.5)
        axes.set(xlabel="score (clean pairs average r = 4)", ylim=(0, 1.05 * top))
        plotting.label_line(
            axes, f"AUC {float(found[0]['auc']):.3f}", (11.5, 0.75 * top), "black", ha="right"
        )
    panels[0].set_ylabel("density")
    return fig


def text(rows: list[Row]) -> str:
    """AUC and estimated clean share in Markdown."""
    body = []
    for name, model in SETTINGS.items():
        found = select(rows, setting=name)
        body.append(
            [
                name,
                f"{np.mean(column(found, 'auc')):.3f}",
                model.clean_share,
                f"{np.mean(column(found, 'estimated_eta')):.3f}",
            ]
        )
    return table(["setting", "AUC of the score", "η", "η estimated from negative scores"], body)


EXPERIMENT = Experiment(
    name="histograms",
    title="Score histograms",
    question="How far apart are clean and mismatched pairs in the eyes of their own teacher?",
    seeds=3,
    minutes=0.1,
    run=run,
    figure=figure,
    text=text,
)
