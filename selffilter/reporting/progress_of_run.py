"""The numbers that a run leaves on its way, as curves over the samples seen."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from selffilter.planning import round_steps
from selffilter.rundir.numbers import round_numbers
from selffilter.rundir.on_disk import RunOnDisk, number
from selffilter.store import iterate_jsonl

_MOST_POINTS = 240
_MOST_SETS = 6
_FIRST_OF_A_SET = ("mean_per_class_recall", "acc1", "image_retrieval_recall@5", "jaccard")
"""Which metrics of an evaluation set are drawn, if it has them; else its first."""

ZERO_SHOT = "zero-shot"
"""The note of panels of evaluations."""

Point = tuple[float, float]

_ROUND_PANELS: tuple[tuple[str, dict[str, str], str, tuple[float, float] | None], ...] = (
    (
        "against the planted truth",
        {
            "auc": "AUC of the scores",
            "precision": "right pairs among the confident",
            "recall": "right pairs that are confident",
        },
        "neither scoring nor selecting sees it",
        (0, 1),
    ),
    (
        "how the selection moves",
        {
            "retention": "confident rows that stay",
            "overlap": "overlap (Jaccard)",
            "rank_correlation": "rank correlation",
        },
        "with the round before",
        (-1, 1),
    ),
    (
        "memorisation, standard deviations",
        {"cue_sd": "cue", "lead_sd": "lead of the confident"},
        "bars: two standard errors",
        None,
    ),
    (
        "rows selected",
        {"selected": "all", "confident": "for their score", "diverse": "by lot alone"},
        "",
        None,
    ),
)
"""Title, key of the summary → name, note, bounds."""


@dataclass(frozen=True)
class Line:
    """A curve.

    Attributes:
        name: What it is.
        points: (samples seen, value), ascending.
        errors: Standard error of each value; empty: not known.
        kind: Of its mark, see `marks.kind_of`; "": by its place in the panel.
        band: (low, high) around each value; empty: none.
        singles: Curves that it is the mean of.
    """

    name: str
    points: list[Point]
    errors: list[float] = field(default_factory=list)
    kind: str = ""
    band: list[tuple[float, float]] = field(default_factory=list)
    singles: list[list[Point]] = field(default_factory=list)


@dataclass(frozen=True)
class Panel:
    """Curves with one axis.

    Attributes:
        title: What is measured, with its unit.
        lines: At least one.
        note: What a reader has to know; "": nothing.
        bounds: What the values cannot be beyond; None: anything.
    """

    title: str
    lines: list[Line]
    note: str = ""
    bounds: tuple[float, float] | None = None


@dataclass(frozen=True)
class Progress:
    """A run on its way.

    Attributes:
        panels: What was measured.
        boundaries: Samples seen at the end of each round that has trained: (round, samples).
        samples: Length of the whole run, in samples.
    """

    panels: list[Panel]
    boundaries: list[tuple[int, int]]
    samples: int


def progress_of(run: RunOnDisk, metric: str | None = None) -> Progress:
    """Read the curves of a run, finished or not.

    Args:
        run: The run.
        metric: Which of an evaluation set's is drawn, where it has that; None: a choice.
    """
    config = run.config
    batch = config.train.global_batch_size
    trained = set(run.done("train"))
    steps = round_steps(config)
    boundaries = [(s.round, s.end * batch) for s in steps if s.round in trained]
    panels = [*_of_training(run), *_of_evaluations(run, metric), *_of_rounds(run)]
    return Progress(panels, boundaries, steps[-1].end * batch)


def thinned(points: list[Point], most: int = _MOST_POINTS) -> list[Point]:
    """Average neighbouring points until there are few enough; the first and the last stay."""
    if len(points) <= most:
        return points
    inner = np.array_split(np.array(points[1:-1]), most - 2)
    means = [tuple(part.mean(axis=0).tolist()) for part in inner]
    return [points[0], *means, points[-1]]


def _of_training(run: RunOnDisk) -> list[Panel]:
    """The loss, broken where weights begin anew: no line leads from one model to another."""
    lines: list[Line] = []
    current: list[Point] = []
    rounds = run.store.rounds()
    most = max(40, _MOST_POINTS // max(1, len(rounds)))
    for round_ in rounds:
        if round_ in run.config.rounds.fresh_weights_at and current:
            lines.append(Line("loss", current))
            current = []
        records = iterate_jsonl(run.store.round(round_) / "metrics.jsonl")
        points = [
            (float(record["samples_seen"]), value)
            for record in records
            if record.get("kind") == "train" and (value := number(record.get("loss"))) is not None
        ]
        current += thinned(points, most)
    if current:
        lines.append(Line("loss", current))
    note = "a new line where weights begin anew" if len(lines) > 1 else ""
    return [Panel("training loss, nats", lines, note)] if lines else []


def _of_evaluations(run: RunOnDisk, metric: str | None) -> list[Panel]:
    by_set: dict[str, dict[str, list[Point]]] = {}
    for row in round_numbers(run.store):
        if row["set"] is not None and row["samples_seen"] is not None:
            metrics = by_set.setdefault(row["set"], {})
            point = (float(row["samples_seen"]), 100 * row["value"])
            metrics.setdefault(row["metric"], []).append(point)
    panels = []
    for set_, metrics in list(by_set.items())[:_MOST_SETS]:
        asked = _FIRST_OF_A_SET if metric not in metrics else (metric,)
        shown = [name for name in asked if name in metrics] or list(metrics)[:1]
        lines = [Line(m.replace("_", " "), sorted(metrics[m])) for m in shown[:2]]
        panels.append(Panel(f"{set_}, %", lines, ZERO_SHOT, (0, 100)))
    return panels


def _of_rounds(run: RunOnDisk) -> list[Panel]:
    values: dict[str, list[Point]] = {}
    errors: dict[str, list[float]] = {}
    for round_ in run.done("select"):
        seen = run.store.summary(round_, "train").get("samples_seen")
        summary = run.store.summary(round_, "select")
        for key, value in summary.items():
            known = number(value) if isinstance(value, int | float) else None
            if known is not None and seen is not None:
                values.setdefault(key, []).append((float(seen), known))
                error = number(summary.get(f"{key}_error"))
                errors.setdefault(key, []).append(0.0 if error is None else error)

    panels = []
    for title, asked, note, bounds in _ROUND_PANELS:
        lines = [
            Line(name, values[key], errors[key] if any(errors[key]) else [])
            for key, name in asked.items()
            if key in values
        ]
        if lines:
            panels.append(Panel(title, lines, note, bounds))
    return panels
