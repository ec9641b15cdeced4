"""What an experiment is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from selffilter.theory.parallel import Row


@dataclass(frozen=True)
class Effort:
    """How much to compute.

    Attributes:
        seeds: independent draws a setting.
        workers: processes.
        quick: coarser grids and smaller pools: for a look, not for numbers.
    """

    seeds: int
    workers: int
    quick: bool


@dataclass(frozen=True)
class Experiment:
    """One subject: its numbers, its figure, its page in the report.

    Attributes:
        name: as given on the command line and to the files.
        title: heading in the report.
        question: one sentence that the experiment answers.
        seeds: default number of seeds; a tenth of it, at least 2, under ``quick``.
        minutes: about how long it takes on one core with the defaults.
        run: computes the tidy rows.
        figure: draws them.
        text: Markdown with the numbers, computed from the rows.
    """

    name: str
    title: str
    question: str
    seeds: int
    minutes: float
    run: Callable[[Effort], list[Row]]
    figure: Callable[[list[Row]], Figure]
    text: Callable[[list[Row]], str]


def select(rows: Iterable[Row], **conditions: float | int | str) -> list[Row]:
    """Return the rows whose columns have the given values."""
    return [row for row in rows if all(row[key] == value for key, value in conditions.items())]


def column(rows: Iterable[Row], name: str) -> list[float]:
    """Return a numeric column."""
    return [float(row[name]) for row in rows]


def unique(rows: Iterable[Row], name: str) -> list[float]:
    """Return the distinct values of a numeric column, ascending."""
    return sorted({float(row[name]) for row in rows})


def labels(rows: Iterable[Row], name: str) -> list[str]:
    """Return the distinct values of a text column, in order of appearance."""
    return list(dict.fromkeys(str(row[name]) for row in rows))


def by(rows: list[Row], axis: str, value: str) -> tuple[list[float], list[list[float]]]:
    """Return the distinct abscissae of ``axis`` and the seeds' values at each."""
    x = unique(rows, axis)
    return x, [column(select(rows, **{axis: at}), value) for at in x]


def mean_of(rows: list[Row], value: str = "error") -> float:
    """Return the mean of a column; an empty selection is a mistake of ours, not a zero."""
    if not rows:
        raise LookupError(f"no rows to average {value!r} over")
    return float(np.mean(column(rows, value)))


def median_of(rows: list[Row], value: str = "error") -> float:
    """Return the median of a column, for errors with heavy tails."""
    if not rows:
        raise LookupError(f"no rows to take the median of {value!r} over")
    return float(np.median(column(rows, value)))


def log_slope(x: Iterable[float], y: Iterable[float]) -> float:
    """Return the least-squares slope of log y against log x."""
    return float(np.polyfit(np.log(list(x)), np.log(list(y)), 1)[0])


def table(header: list[str], body: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *[[str(cell) for cell in line] for line in body]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
