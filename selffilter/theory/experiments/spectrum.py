"""Unequal latent strengths: where variance alignment should matter [ours]."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from selffilter.theory import plotting
from selffilter.theory.covariance import CrossCovariance
from selffilter.theory.departures import UnequalSpectrum
from selffilter.theory.experiments.base import (
    Effort,
    Experiment,
    column,
    labels,
    median_of,
    select,
    table,
    unique,
)
from selffilter.theory.filtering import fit, keep_top, score_pool
from selffilter.theory.model import Array, Mask, Pool
from selffilter.theory.parallel import Row, run_tasks
from selffilter.theory.solution import LinearClip, solve

N = 10_000
FIRST, SECOND = 0.45, 0.30  # both of the pool, as in the two-stage recipe of arXiv 2402.02055
SCALES = (1.2, 1.1, 0.9, 0.8)
WIDTHS = (4, 2)  # of the student: room for all latents, and for half of them
MODEL = UnequalSpectrum(image_gamma=100.0, text_gamma=100.0, clean_share=0.3, latent_scales=SCALES)
TASKS = {
    "as common as in the pool": np.square(SCALES),
    "all concepts alike": np.ones(4),
    "rare concepts only": np.array([0.0, 0.0, 0.5, 0.5]),
}


def lost_variance(learned: LinearClip, weights_r: Array) -> float:
    """Return the share of a target's image signal that falls outside the learned subspace, 0 to 1.

    Args:
        learned: the encoders.
        weights_r: variance of each latent dimension in the target task, (r,).
    """
    basis_dr = np.linalg.svd(learned.image_encoder_rd, full_matrices=False)[2].T
    truth_dr = MODEL.image_basis_dr
    rest_dr = truth_dr - basis_dr @ (basis_dr.T @ truth_dr)
    return float(np.sum(rest_dr**2 @ weights_r) / np.sum(weights_r))


def alignment(u_nr: Array, target_rr: Array) -> Array:
    """Variance alignment score ``u^T Sigma u`` (arXiv 2402.02055), (n,)."""
    return np.asarray(np.einsum("nr,rs,ns->n", u_nr, target_rr, u_nr))


def trial(seed: int) -> list[Row]:
    """Compare second stages on one pool."""
    pool = Pool(MODEL, N, seed)
    teacher = fit(pool)
    scores_n = score_pool(pool, teacher)
    first_n = keep_top(scores_n, FIRST)
    x_nd, y_ne, clean_n = pool.all()
    u_nr, _ = teacher.embed(x_nd, y_ne)
    rng = np.random.default_rng([seed, 1])

    def second(values_n: Array) -> Mask:
        return keep_top(np.where(first_n, values_n, -np.inf), SECOND)

    def target(weights_r: Array) -> Array:
        """Covariance of a target set in the teacher's embedding: unlabelled images suffice."""
        projected = teacher.image_encoder_rd @ (MODEL.image_basis_dr * np.sqrt(weights_r))
        return np.asarray(projected @ projected.T)

    selections = {
        "unfiltered": np.ones(N, dtype=bool),
        "score 45 %": first_n,
        "score 30 %": keep_top(scores_n, SECOND),
        "score 45 %, random 30 %": second(rng.random(N)),
        "score 45 %, aligned to the pool 30 %": second(alignment(u_nr, u_nr.T @ u_nr / N)),
        "score 45 %, aligned to rare 30 %": second(
            alignment(u_nr, target(TASKS["rare concepts only"]))
        ),
        "clean only": clean_n,
    }
    rows: list[Row] = []
    for arm, keep_n in selections.items():
        covariance = CrossCovariance(MODEL.image_dim, MODEL.text_dim)
        covariance.add(x_nd[keep_n], y_ne[keep_n])
        for width in WIDTHS:
            learned = solve(covariance.value(), width)
            rows += [
                {
                    "width": width, "arm": arm, "task": task, "seed": seed,
                    "lost": lost_variance(learned, weights),
                }
                for task, weights in TASKS.items()
            ]  # fmt: skip
    return rows


def run(effort: Effort) -> list[Row]:
    """Compare second stages over seeds."""
    return run_tasks(trial, range(effort.seeds), workers=effort.workers, label="spectrum")


def figure(rows: list[Row]) -> Figure:
    """Lost share of the target's variance at full width, one panel a task."""
    fig, panels = plotting.new_figure(11, 3.4, columns=3)
    arms = labels(rows, "arm")
    for number, (axes, task) in enumerate(zip(panels, TASKS, strict=True)):
        for place, arm in enumerate(reversed(arms)):
            values = column(select(rows, task=task, arm=arm, width=WIDTHS[0]), "lost")
            low, middle, high = 1e5 * np.quantile(values, [0.25, 0.5, 0.75])
            colour = "red" if "rare" in arm else "orange" if "pool" in arm else "blue"
            axes.plot([low, high], [place, place], color=plotting.COLOURS[colour], lw=3, alpha=0.4)
            axes.plot(middle, place, "o", color=plotting.COLOURS[colour])
        axes.set_title(f"task: {task}", fontsize=9.5)
        axes.set(xlim=(0, None), xlabel="share of the task's variance lost (×10⁻⁵)")
        axes.set_yticks(range(len(arms)), [""] * len(arms) if number else arms[::-1])
    return fig


def text(rows: list[Row]) -> str:
    """Lost variance in Markdown."""
    parts = []
    for width in WIDTHS:
        body = []
        for arm in labels(rows, "arm"):
            cells = [select(rows, task=task, arm=arm, width=width) for task in TASKS]
            body.append([arm, *(f"{median_of(cell, 'lost'):.2e}" for cell in cells)])
        parts.append(f"**Student of width {width}**\n\n{table(['selection', *TASKS], body)}")
    return (
        f"Latent standard deviations {SCALES}; γ = 100, η = 0.3, n = {N:,}; median over "
        f"{len(unique(rows, 'seed'))} seeds of the share of the task's image variance that the "
        "learned subspace loses.\n\n" + "\n\n".join(parts)
    )


EXPERIMENT = Experiment(
    name="spectrum",
    title="Rare and common concepts: variance alignment",
    question="When latent strengths differ, does the choice of the target covariance matter?",
    seeds=60,
    minutes=0.1,
    run=run,
    figure=figure,
    text=text,
)
