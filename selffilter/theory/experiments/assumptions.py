"""What breaks when an assumption of the model does [ours]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from selffilter.theory import plotting
from selffilter.theory.departures import (
    CorrelatedMismatches,
    HeavyTails,
    PrivateNuisance,
    RotatedBases,
    SharedNuisance,
)
from selffilter.theory.experiments.base import (
    Effort,
    Experiment,
    by,
    labels,
    median_of,
    select,
    table,
    unique,
)
from selffilter.theory.filtering import fit, keep_top, oracle_fit, score_pool
from selffilter.theory.loop import LoopSettings, self_filter
from selffilter.theory.model import BimodalModel, Pool
from selffilter.theory.parallel import Row, run_tasks
from selffilter.theory.solution import LinearClip, representation_error

N = 10_000
KEEP = 0.4
ROUNDS = 5
WEAK = BimodalModel(50, 40, 4, 1.0, 1.0, 0.2)


@dataclass(frozen=True)
class Departure:
    """One broken assumption.

    Attributes:
        title: of the panel.
        axis: what is varied.
        values: its settings.
        learn: pool, setting and seed to the learners that are compared, by name.
        model: the data at a setting.
    """

    title: str
    axis: str
    values: tuple[float, ...]
    model: Callable[[float], BimodalModel]
    learn: Callable[[Pool, float, int], dict[str, LinearClip]]


def usual_arms(pool: Pool, value: float, seed: int) -> dict[str, LinearClip]:
    """No filter, one pass, the loop without and with random rows, a cosine loop, clean pairs."""

    def loop(share: float, signal: str = "inner product") -> list[LinearClip]:
        settings = LoopSettings(KEEP, share, ROUNDS, signal)
        return [each.learner for each in self_filter(pool, settings)]

    plain = loop(0.0)
    return {
        "unfiltered": plain[0],
        "one pass": plain[1],
        "loop": plain[-1],
        "loop, 20 % random": loop(0.2)[-1],
        "loop, 50 % random": loop(0.5)[-1],
        "loop, cosine": loop(0.0, "cosine")[-1],
        "clean only": oracle_fit(pool),
    }


def shifted_teacher(pool: Pool, angle: float, seed: int) -> dict[str, LinearClip]:
    """Start from a teacher trained on clean pairs of a world turned by ``angle``."""
    elsewhere = Pool(RotatedBases(clean_share=1.0, angle=angle), N, seed + 1_000_000)
    teacher = fit(elsewhere)

    def loop(share: float) -> list[LinearClip]:
        rounds = self_filter(pool, LoopSettings(KEEP, share, ROUNDS), teacher=teacher)
        return [each.learner for each in rounds]

    plain = loop(0.0)
    return {
        "unfiltered": fit(pool),
        "one pass": plain[1],
        "loop": plain[-1],
        "loop, 50 % random": loop(0.5)[-1],
        "clean only": oracle_fit(pool),
    }


def several_teachers(pool: Pool, count: float, seed: int) -> dict[str, LinearClip]:
    """Split the pool among ``count`` teachers; average their scores, or their agreement."""
    part_n = np.arange(pool.n) % int(count)
    scores_kn = np.stack([score_pool(pool, fit(pool, part_n == k)) for k in range(int(count))])
    standard_kn = scores_kn / scores_kn.std(axis=1, keepdims=True)
    out_of_part_n = standard_kn.sum(0)
    if count > 1:
        # Without the teacher that was trained on the pair itself.
        out_of_part_n = out_of_part_n - standard_kn[part_n, np.arange(pool.n)]
    return {
        "unfiltered": fit(pool),
        "one pass": fit(pool, keep_top(score_pool(pool, fit(pool)), KEEP)),
        "mean of the teachers": fit(pool, keep_top(standard_kn.mean(0), KEEP)),
        "lowest of the teachers": fit(pool, keep_top(standard_kn.min(0), KEEP)),
        "mean of the others": fit(pool, keep_top(out_of_part_n, KEEP)),
        "clean only": oracle_fit(pool),
    }


DEPARTURES: dict[str, Departure] = {
    "correlated": Departure(
        "mismatches correlate (η = 0.1)",
        "correlation of mismatched latents",
        (-0.3, -0.2, -0.1, -0.05, 0.0, 0.1, 0.2, 0.4),
        lambda c: CorrelatedMismatches(clean_share=0.1, correlation=c),
        usual_arms,
    ),
    "heavy": Departure(
        "heavy tails (η = 0.3)",
        "degrees of freedom",
        (2.2, 2.5, 3, 4, 6, 10, 30),
        lambda dof: HeavyTails(clean_share=0.3, dof=dof),
        usual_arms,
    ),
    "shared": Departure(
        "mismatches share a nuisance (η = 0.3)",
        "nuisance over signal in the covariance, (1−η)s²/η",
        (0.1, 0.3, 0.6, 0.9, 1.2, 1.6, 2.2, 3.0, 5.0),
        lambda ratio: SharedNuisance(clean_share=0.3, strength=float(np.sqrt(ratio * 0.3 / 0.7))),
        usual_arms,
    ),
    "private": Departure(
        "unequal spectrum: private nuisance (η = 0.3)",
        "standard deviation of the nuisance (signal: 1)",
        (0.0, 0.5, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0),
        lambda s: PrivateNuisance(clean_share=0.3, strength=s),
        usual_arms,
    ),
    "shifted": Departure(
        "teacher from a turned world (η = 0.01)",
        "angle in degrees",
        (0, 15, 30, 45, 60, 75, 85, 90),
        lambda _: BimodalModel(clean_share=0.01),
        lambda pool, degrees, seed: shifted_teacher(pool, float(np.deg2rad(degrees)), seed),
    ),
    "several": Departure(
        "several teachers (γ = 1, d = 50, η = 0.2)",
        "teachers, each on its part of the pool",
        (1, 2, 3, 4, 6, 8),
        lambda _: WEAK,
        several_teachers,
    ),
}
COLOURS = {
    "unfiltered": "red",
    "one pass": "sky",
    "loop": "blue",
    "loop, 20 % random": "orange",
    "loop, 50 % random": "pink",
    "loop, cosine": "black",
    "clean only": "green",
    "mean of the teachers": "blue",
    "lowest of the teachers": "orange",
    "mean of the others": "pink",
}


def trial(task: tuple[str, float, int]) -> list[Row]:
    """Errors of all arms of one departure at one setting."""
    name, value, seed = task
    departure = DEPARTURES[name]
    pool = Pool(departure.model(value), N, seed)
    return [
        {
            "departure": name, "value": value, "seed": seed, "arm": arm,
            "error": representation_error(learned, pool.model),
        }
        for arm, learned in departure.learn(pool, value, seed).items()
    ]  # fmt: skip


def run(effort: Effort) -> list[Row]:
    """Run all departures."""
    tasks = [
        (name, float(value), seed)
        for name, departure in DEPARTURES.items()
        for value in (departure.values[::2] if effort.quick else departure.values)
        for seed in range(effort.seeds)
    ]
    return run_tasks(trial, tasks, workers=effort.workers, label="departures")


def figure(rows: list[Row]) -> Figure:
    """One panel a departure."""
    fig, panels = plotting.new_figure(12, 7.4, columns=3, rows=2)
    for axes, (name, departure) in zip(panels, DEPARTURES.items(), strict=True):
        found = select(rows, departure=name)
        for arm in labels(found, "arm"):
            x, values = by(select(found, arm=arm), "value", "error")
            plotting.quartile_band(axes, x, values, colour=COLOURS[arm], label=arm)
        axes.set(yscale="log", xlabel=departure.axis)
        axes.set_title(departure.title, fontsize=10)
        if name == "heavy":
            axes.set_xscale("log")
            axes.set_xticks([2.5, 5, 10, 30], ["2.5", "5", "10", "30"])
            axes.minorticks_off()
        if name == "shared":
            axes.axvline(1, color=plotting.COLOURS["grey"], ls="--", lw=1)
    for axes in panels[::3]:
        axes.set_ylabel("error ‖sin Θ‖")
    panels[0].legend(frameon=False, fontsize=7.5, loc="upper right")
    panels[5].legend(frameon=False, fontsize=7.5, loc="center right", bbox_to_anchor=(1, 0.6))
    return fig


def text(rows: list[Row]) -> str:
    """Errors of all arms in Markdown."""
    parts = []
    for name, departure in DEPARTURES.items():
        found = select(rows, departure=name)
        arms = labels(found, "arm")
        body = [
            [f"{value:g}"]
            + [f"{median_of(select(found, value=value, arm=arm)):.4f}" for arm in arms]
            for value in unique(found, "value")
        ]
        parts.append(f"**{departure.title}**\n\n{table([departure.axis, *arms], body)}")
    return (
        f"n = {N:,}, kept {KEEP:.0%}, loops of {ROUNDS} rounds, median error over "
        f"{len(unique(rows, 'seed'))} seeds.\n\n" + "\n\n".join(parts)
    )


EXPERIMENT = Experiment(
    name="departures",
    title="When the assumptions fail",
    question="Which broken assumption turns self-filtering from a help into a harm?",
    seeds=24,
    minutes=1,
    run=run,
    figure=figure,
    text=text,
)
