"""Distributions of scores by round: what was kept and dropped, and right pairs against planted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selffilter.reporting.draw_of_rows import Drawn
from selffilter.reporting.fates import NOT_BASE
from selffilter.rundir.on_disk import RunOnDisk, number
from selffilter.selecting.calibration import Reliability
from selffilter.selecting.histograms import histogram
from selffilter.store import read_object
from selffilter.tables import CALIBRATION, HISTOGRAMS, read_table

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Shape:
    """A round's scores in bins.

    Attributes:
        round: The round.
        signal: Whose scores.
        low: Lower edge of the first bin.
        high: Upper edge of the last.
        parts: base, confident, diverse, probe → counts (B,), of all rows.
        right_B: Counts of the followed rows of the base that are right pairs; None: the truth is
            not known.
        planted_B: Likewise of those with a planted caption.
        threshold: Lowest confident score; None: there is none, or rows are ranked by their merit.
        reliability: Of two Gaussians fitted to all rows; None: no truth, or one Gaussian serves.
    """

    round: int
    signal: str
    low: float
    high: float
    parts: dict[str, Counts]
    right_B: Counts | None
    planted_B: Counts | None
    threshold: float | None
    reliability: Reliability | None = None


def shapes_of(run: RunOnDisk, drawn: Drawn, clean_S: NDArray[np.int8] | None) -> list[Shape]:
    """Read the histograms that the rounds have left; rounds without scores have none."""
    found = []
    for place, round_ in enumerate(drawn.rounds):
        path = run.store.stage(round_, "select") / HISTOGRAMS
        written = read_object(path) if path.exists() else {"parts": {}}
        if "base" not in written["parts"]:
            continue
        base = written["parts"]["base"]
        low, high, bins = base["low"], base["high"], len(base["counts"])
        split: list[Counts | None] = [None, None]
        if clean_S is not None:
            of_base_S = drawn.fate_RS[place] != NOT_BASE
            split = [
                histogram(drawn.score_RS[place], low, high, bins, of_base_S & (clean_S == label))
                .counts_B
                for label in (1, 0)
            ]  # fmt: skip
        calibration = run.store.stage(round_, "select") / CALIBRATION
        reliability = None
        if clean_S is not None and calibration.exists():
            read = Reliability.of_table(read_table(calibration))
            reliability = read if read.rows_B.any() else None
        threshold = number(run.store.summary(round_, "select").get("threshold"))
        found.append(
            Shape(
                round_,
                written["signal"],
                low,
                high,
                {name: np.array(part["counts"]) for name, part in written["parts"].items()},
                split[0],
                split[1],
                threshold if run.merit(round_) is None else None,
                reliability,
            )
        )
    return found
