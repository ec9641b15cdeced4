"""Self-filtering in the linear model: what rounds and random rows do [ours]."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from selffilter.theory import plotting
from selffilter.theory.departures import PrivateNuisance
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
from selffilter.theory.filtering import fit, keep_top, oracle_fit, score_pool, teacher_student
from selffilter.theory.loop import LoopSettings, self_filter
from selffilter.theory.model import BimodalModel, Pool
from selffilter.theory.parallel import Row, run_tasks
from selffilter.theory.solution import LinearClip, representation_error, solve

N = 10_000
ROUNDS = 8
KEEP = 0.4
WEAK = BimodalModel(50, 40, 4, 1.0, 1.0, 0.1)
SETTINGS: dict[str, BimodalModel] = {
    "strong teacher (η = 0.3, γ = 10⁴)": BimodalModel(clean_share=0.3),
    "few clean pairs (η = 0.003, γ = 10⁴)": BimodalModel(clean_share=0.003),
    "weak teacher (η = 0.1, γ = 1, d = 50)": WEAK,
    "strong private nuisance (η = 0.3, s = 2)": PrivateNuisance(clean_share=0.3, strength=2.0),
}
ARMS: dict[str, LoopSettings] = {
    "no random rows": LoopSettings(KEEP, 0.0, ROUNDS),
    "20 % random": LoopSettings(KEEP, 0.2, ROUNDS),
    "50 % random": LoopSettings(KEEP, 0.5, ROUNDS),
    "20 % random, cross-fitted": LoopSettings(KEEP, 0.2, ROUNDS, cross_fit=True),
}
COLOURS = dict(zip(ARMS, ("blue", "orange", "pink", "sky"), strict=True))


def perfect_teacher(model: BimodalModel) -> LinearClip:
    """Return the encoders of somebody who knows the true subspaces."""
    return solve(model.image_basis_dr @ model.text_basis_er.T, model.rank)


def references(pool: Pool) -> dict[str, LinearClip]:
    """Return what the loop is compared with, all at the loop's kept fraction."""
    model = pool.model
    by_oracle = keep_top(score_pool(pool, perfect_teacher(model)), KEEP)
    return {
        "unfiltered": fit(pool),
        "one shot, half split": teacher_student(pool, keep_fraction=KEEP, split=True),
        "clean only": oracle_fit(pool),
        "perfect teacher": fit(pool, by_oracle),
    }


def trial(task: tuple[str, int]) -> list[Row]:
    """Run every arm on one pool."""
    name, seed = task
    model = SETTINGS[name]
    pool = Pool(model, N, seed)
    rows: list[Row] = [
        {
            "setting": name, "arm": arm, "seed": seed, "round": -1,
            "error": representation_error(learned, model), "precision": float("nan"),
        }
        for arm, learned in references(pool).items()
    ]  # fmt: skip
    for arm, settings in ARMS.items():
        for index, each in enumerate(self_filter(pool, settings)):
            error = representation_error(each.learner, model)
            rows.append(
                {
                    "setting": name, "arm": arm, "seed": seed, "round": index,
                    "error": error, "precision": each.precision,
                }
            )  # fmt: skip
    return rows


def run(effort: Effort) -> list[Row]:
    """Run the loop in every setting."""
    tasks = [(name, seed) for name in SETTINGS for seed in range(effort.seeds)]
    return run_tasks(trial, tasks, workers=effort.workers, label="loop")


def figure(rows: list[Row]) -> Figure:
    """Error against rounds, one panel a setting, references as lines."""
    fig, panels = plotting.new_figure(10.4, 7.6, columns=2, rows=2)
    for axes, name in zip(panels, SETTINGS, strict=True):
        for arm, colour in COLOURS.items():
            x, values = by(select(rows, setting=name, arm=arm), "round", "error")
            plotting.quartile_band(axes, x, values, colour=colour, label=arm)
        levels = [
            (arm, median_of(select(rows, setting=name, arm=arm)))
            for arm in ("one shot, half split", "clean only", "perfect teacher")
        ]
        last = 0.0
        for arm, level in sorted(levels, key=lambda pair: pair[1]):
            axes.hlines(level, 0, ROUNDS, color="black", lw=0.9, ls="--")
            # Names of levels closer than a tenth of a decade would lie on one another.
            above = bool(last) and np.log10(level / last) < 0.12
            plotting.label_line(
                axes, arm, (ROUNDS + 0.15, level), "black", (0, 8 if above else 0), fontsize=8
            )
            last = level
        axes.set(yscale="log", title=name, xlabel="round (0: trained on everything)")
        axes.set_xlim(-0.3, ROUNDS + 3.4)
        axes.set_xticks(range(ROUNDS + 1))
    for axes in panels[::2]:
        axes.set_ylabel("error ‖sin Θ‖")
    panels[0].legend(frameon=False, loc="upper right", bbox_to_anchor=(0.74, 1.0))
    return fig


def text(rows: list[Row]) -> str:
    """Errors after 1, 5 and 8 rounds in Markdown."""
    parts = []
    for name in SETTINGS:
        found = select(rows, setting=name)
        body = []
        for arm in ARMS:
            cells = [f"{median_of(select(found, arm=arm, round=k)):.4f}" for k in (1, 2, 5, ROUNDS)]
            precision = [
                f"{median_of(select(found, arm=arm, round=k), 'precision'):.3f}"
                for k in (1, ROUNDS)
            ]
            body.append([arm, *cells, *precision])
        header = ["loop", "round 1", "2", "5", str(ROUNDS), "precision, round 1", str(ROUNDS)]
        levels = ", ".join(
            f"{arm} {median_of(select(found, arm=arm, round=-1)):.4f}"
            for arm in ("unfiltered", "one shot, half split", "clean only", "perfect teacher")
        )
        parts.append(f"**{name}.** {levels}.\n\n{table(header, body)}")
    seeds = len(unique(rows, "seed"))
    return (
        f"n = {N:,}, kept {KEEP:.0%}; median error over {seeds} seeds; *precision* is the clean "
        "share of the confident rows.\n\n" + "\n\n".join(parts)
    )


EXPERIMENT = Experiment(
    name="loop",
    title="One loop that filters itself",
    question="Do several rounds help, and do random rows help or hurt?",
    seeds=40,
    minutes=0.2,
    run=run,
    figure=figure,
    text=text,
)

# ---- the loop against eta ----------------------------------------------------------------------

ETAS = tuple(float(eta) for eta in np.logspace(0, -3, 10))
BASES = {"small noise (γ = 10⁴)": BimodalModel(), "large noise (γ = 1, d = 50, d̃ = 40)": WEAK}
SWEEP_ARMS = {
    "unfiltered": "red",
    "one shot, half split": "orange",
    "one pass": "sky",
    "loop, 8 rounds": "blue",
    "loop, 8 rounds, 20 % random": "pink",
    "clean only": "green",
}


def sweep_trial(task: tuple[str, float, int]) -> list[Row]:
    """Errors of all arms at one clean share."""
    name, eta, seed = task
    model = replace(BASES[name], clean_share=eta)
    pool = Pool(model, N, seed)
    plain = self_filter(pool, LoopSettings(KEEP, 0.0, ROUNDS))
    arms = {
        "unfiltered": plain[0].learner,
        "one pass": plain[1].learner,
        "loop, 8 rounds": plain[-1].learner,
        "loop, 8 rounds, 20 % random": self_filter(pool, LoopSettings(KEEP, 0.2, ROUNDS))[
            -1
        ].learner,
        "one shot, half split": teacher_student(pool, keep_fraction=KEEP, split=True),
    }
    if pool.all().clean_n.sum() >= 2 * model.rank:
        arms["clean only"] = oracle_fit(pool)
    return [
        {"setting": name, "eta": eta, "seed": seed, "arm": arm,
         "error": representation_error(learned, model)}
        for arm, learned in arms.items()
    ]  # fmt: skip


def sweep_run(effort: Effort) -> list[Row]:
    """Sweep the clean share with the loop."""
    tasks = [(name, eta, seed) for name in BASES for eta in ETAS for seed in range(effort.seeds)]
    return run_tasks(sweep_trial, tasks, workers=effort.workers, label="loop-eta")


def sweep_figure(rows: list[Row]) -> Figure:
    """Error against eta, one panel a noise level."""
    fig, panels = plotting.new_figure(10.4, 4.6, columns=2)
    for axes, name in zip(panels, BASES, strict=True):
        for arm, colour in SWEEP_ARMS.items():
            x, values = by(select(rows, setting=name, arm=arm), "eta", "error")
            plotting.quartile_band(axes, x, values, colour=colour, label=arm)
        axes.set(xscale="log", yscale="log", xlabel="clean share η", title=name)
    panels[0].set_ylabel("error ‖sin Θ‖")
    panels[1].legend(frameon=False, loc="lower left", fontsize=8.5)
    return fig


def sweep_text(rows: list[Row]) -> str:
    """Slopes and errors in Markdown."""
    parts = []
    for name in BASES:
        found = select(rows, setting=name)
        body = [
            [f"{eta:.4g}"]
            + [
                f"{median_of(chosen):.4f}" if (chosen := select(found, eta=eta, arm=arm)) else "-"
                for arm in SWEEP_ARMS
            ]
            for eta in ETAS
        ]
        span = [eta for eta in ETAS if eta > 0.04]
        fits = (
            f"{log_slope(span, [median_of(select(found, eta=e, arm=arm)) for e in span]):.2f}"
            for arm in SWEEP_ARMS
        )
        body.append(["slope, η > 0.04", *fits])
        parts.append(f"**{name}**\n\n{table(['η', *SWEEP_ARMS], body)}")
    seeds = len(unique(rows, "seed"))
    return (
        f"n = {N:,}, kept {KEEP:.0%}, median over {seeds} seeds. The largest possible error is 2 "
        "(= √r).\n\n" + "\n\n".join(parts)
    )


ETA_EXPERIMENT = Experiment(
    name="loop-eta",
    title="Does the loop beat 1/η?",
    question="Error of the self-filtering loop against the clean share.",
    seeds=24,
    minutes=0.5,
    run=sweep_run,
    figure=sweep_figure,
    text=sweep_text,
)
