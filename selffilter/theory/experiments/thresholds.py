"""Where to cut, and on which score [ours]."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from selffilter.theory import plotting
from selffilter.theory.experiments.base import (
    Effort,
    Experiment,
    by,
    labels,
    mean_of,
    select,
    table,
    unique,
)
from selffilter.theory.filtering import SIGNALS, fit, fit_nested, keep_above, score_pool
from selffilter.theory.model import BimodalModel, Pool
from selffilter.theory.parallel import Row, run_tasks
from selffilter.theory.solution import representation_error
from selffilter.theory.threshold import THRESHOLD_RULES

SMALL_NOISE = BimodalModel()
LARGE_NOISE = BimodalModel(50, 40, 4, 1.0, 1.0)
SETTINGS = {
    "γ = 10⁴, n = 10⁴": (SMALL_NOISE, 10_000),
    "γ = 10⁴, n = 10⁵": (SMALL_NOISE, 100_000),
    "γ = 1, n = 10⁴": (LARGE_NOISE, 10_000),
    "γ = 1, n = 10⁵": (LARGE_NOISE, 100_000),
}
ETAS = (0.03, 0.1, 0.3, 0.6)
FRACTIONS = tuple(float(f) for f in np.round(np.linspace(0.05, 1.0, 39), 4))


def trial(task: tuple[str, float, int]) -> list[Row]:
    """Error of every kept fraction and of every rule, for every signal, on one pool."""
    name, eta, seed = task
    base, n = SETTINGS[name]
    model = replace(base, clean_share=eta)
    pool = Pool(model, n, seed)
    teacher = fit(pool)
    # One unit of the inner product is one unit of <z, z'>: divide by the mean singular value.
    unit = float(np.sum(teacher.image_encoder_rd**2) / model.rank)
    rows: list[Row] = []
    for signal in SIGNALS:
        scores_n = score_pool(pool, teacher, signal)
        scale = unit if signal == "inner product" else 1.0
        shared: Row = {"setting": name, "eta": eta, "seed": seed, "signal": signal}
        for fraction, learned in zip(FRACTIONS, fit_nested(pool, scores_n, FRACTIONS), strict=True):
            cut = float(np.quantile(scores_n, 1 - fraction)) / scale
            error = representation_error(learned, model)
            rows.append({**shared, "rule": "grid", "kept": fraction, "cut": cut, "error": error})
        for rule, choose in THRESHOLD_RULES.items():
            threshold = choose(scores_n)
            keep_n = keep_above(scores_n, threshold)
            error = representation_error(fit(pool, keep_n), model)
            rows.append(
                {
                    **shared, "rule": rule, "kept": float(keep_n.mean()),
                    "cut": threshold / scale, "error": error,
                }
            )  # fmt: skip
    return rows


def run(effort: Effort) -> list[Row]:
    """Compute all curves and rules."""
    settings = list(SETTINGS)[::2] if effort.quick else list(SETTINGS)
    tasks = [(name, eta, seed) for name in settings for eta in ETAS for seed in range(effort.seeds)]
    return run_tasks(trial, tasks, workers=effort.workers, label="threshold")


def best(rows: list[Row]) -> tuple[float, float, float]:
    """Return (kept fraction, cut, mean error) of the best point of a grid."""
    fractions, errors = by(select(rows, rule="grid"), "kept", "error")
    means = [float(np.mean(values)) for values in errors]
    at = int(np.argmin(means))
    found = select(rows, rule="grid", kept=fractions[at])
    return fractions[at], mean_of(found, "cut"), means[at]


def excess(rows: list[Row], rule: str) -> float:
    """Return by how much a rule's mean error exceeds that of the best cut on the same signal."""
    return mean_of(select(rows, rule=rule)) / best(rows)[2] - 1


def figure(rows: list[Row]) -> Figure:
    """Curves of error against kept fraction, the three signals and the half-mean rule's points."""
    names = [name for name in labels(rows, "setting") if name.endswith("n = 10⁴")]
    fig, panels = plotting.new_figure(11, 5.6, columns=4, rows=len(names))
    colours = dict(zip(SIGNALS, ("blue", "orange", "green"), strict=True))
    for axes, (name, eta) in zip(panels, ((n, e) for n in names for e in ETAS), strict=True):
        here = select(rows, setting=name, eta=eta)
        unit = min(best(select(here, signal=signal))[2] for signal in SIGNALS)
        for signal, colour in colours.items():
            found = select(here, signal=signal)
            x, values = by(select(found, rule="grid"), "kept", "error")
            curve = np.mean(values, axis=1) / unit
            axes.plot(x, curve, color=plotting.COLOURS[colour], lw=1.5, label=signal)
            rule = select(found, rule="half mean")
            at = mean_of(rule, "kept"), mean_of(rule) / unit
            axes.plot(*at, "o", ms=7, mfc="white", color=plotting.COLOURS[colour], mew=1.6)
        axes.set(ylim=(0.95, 2.2), xlim=(0, 1.02))
        axes.set_title(f"{name}, η = {eta}", fontsize=9.5)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "25 %", "50 %", "75 %", "100 %"])
    for axes in panels[::4]:
        axes.set_ylabel("error / best error")
    for axes in panels[-4:]:
        axes.set_xlabel("kept fraction")
    panels[-1].legend(frameon=False, loc="upper right", title="circles: half-mean rule")
    return fig


def text(rows: list[Row]) -> str:
    """Best cuts, signals compared, and what each rule loses, in Markdown."""
    best_body, rule_body = [], []
    worst: dict[tuple[str, str], list[float]] = {}
    for name in labels(rows, "setting"):
        for eta in ETAS:
            cells = [name, str(eta)]
            for signal in SIGNALS:
                found = select(rows, setting=name, eta=eta, signal=signal)
                kept, cut, error = best(found)
                cells.append(f"{kept:.0%} / {cut:.2f} / {error:.3g}")
                for rule in THRESHOLD_RULES:
                    worst.setdefault((signal, rule), []).append(excess(found, rule))
            best_body.append(cells)
    for signal in SIGNALS:
        for rule in THRESHOLD_RULES:
            values = 100 * np.array(worst[signal, rule])
            rule_body.append([signal, rule, f"{np.median(values):.1f} %", f"{values.max():.1f} %"])
    return (
        f"Best cut by trial, {len(unique(rows, 'seed'))} seeds: kept fraction / θ / mean error. "
        "θ of the inner product is in units of ⟨z, z'⟩.\n\n"
        + table(["setting", "η", *SIGNALS], best_body)
        + "\n\nWhat a rule that sees only the scores loses against the best cut on the same "
        f"signal, over the {len(best_body)} settings:\n\n"
        + table(["signal", "rule", "median loss", "largest loss"], rule_body)
    )


EXPERIMENT = Experiment(
    name="threshold",
    title="Where to cut, and on which score",
    question="Inner product or cosine; which theta; can it be read off the scores alone?",
    seeds=8,
    minutes=1.5,
    run=run,
    figure=figure,
    text=text,
)
