"""From the tidy results to one line a method: means, paired differences, the gap closed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from selffilter.comparing.seeds import Difference, Spread, Values, paired_difference, spread
from selffilter.experiments.analysis import GapClosed, gap_closed
from selffilter.experiments.controls import LOOP
from selffilter.store import without_nan

UNIFORM, ORACLE, UNIFORM_EQUAL_COMPUTE = "uniform", "oracle", "uniform_equal_compute"

COSTS = ("samples_seen", "training_flops", "scoring_flops", "used_flops")
OF_THE_DATA = ("clean_share", "precision", "auc")


@dataclass(frozen=True)
class Line:
    """A method on a pool, by one metric.

    Attributes:
        pool: The pool.
        set: The evaluation set.
        metric: The number.
        method: The method.
        value: Over its seeds.
        versus_uniform: At equal samples seen; None for uniform itself or where it did not run.
        versus_equal_compute: Against uniform with as many more samples as the loop's passes cost.
        loop_ahead: The loop minus this method; None for the loop itself, or where it did not run.
        gap_closed: See `analysis.gap_closed`; None for uniform and oracle, or where they are not.
        costs: Samples and FLOPs, means over seeds.
        data: Clean share of samples seen, precision and AUC of the last selection: means over
            seeds; None where not known.
    """

    pool: str
    set: str
    metric: str
    method: str
    value: Spread
    versus_uniform: Difference | None
    versus_equal_compute: Difference | None
    loop_ahead: Difference | None
    gap_closed: GapClosed | None
    costs: dict[str, float]
    data: dict[str, float | None]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values; what is not a number is None."""
        plain: dict[str, Any] = without_nan(asdict(self))
        return plain


def compare(results: pa.Table, methods: Sequence[str], resamples: int) -> list[Line]:
    """Set the methods against each other, pool by pool and metric by metric.

    Args:
        results: See `collecting.RESULTS`.
        methods: In the order of the tables.
        resamples: Of the bootstrap.
    """
    rows = results.to_pylist()
    lines = []
    for pool, set_, metric in dict.fromkeys((r["pool"], r["set"], r["metric"]) for r in rows):
        here = [r for r in rows if (r["pool"], r["set"], r["metric"]) == (pool, set_, metric)]
        values: dict[str, Values] = {
            m: {r["seed"]: r["value"] for r in here if r["method"] == m} for m in methods
        }
        for method in methods:
            if not values[method]:
                continue
            own = [r for r in here if r["method"] == method]
            lines.append(
                Line(
                    pool=pool,
                    set=set_,
                    metric=metric,
                    method=method,
                    value=spread(values[method]),
                    versus_uniform=_versus(values, method, UNIFORM, resamples),
                    versus_equal_compute=_versus(values, method, UNIFORM_EQUAL_COMPUTE, resamples),
                    loop_ahead=_versus(values, LOOP, method, resamples),
                    gap_closed=_gap_closed(values, method, resamples),
                    costs={key: _mean(own, key) or 0.0 for key in COSTS},
                    data={key: _mean(own, key) for key in OF_THE_DATA},
                )
            )
    return lines


def is_asked(set_: str, metric: str, asked: Sequence[str]) -> bool:
    """Whether a number is among those asked for, as ``metric`` or ``SET/metric``; empty: all."""
    return not asked or metric in asked or f"{set_}/{metric}" in asked


def _versus(
    values: dict[str, Values], method: str, other: str, resamples: int
) -> Difference | None:
    if method == other or not values.get(method) or not values.get(other):
        return None
    return paired_difference(values[method], values[other], resamples)


def _gap_closed(values: dict[str, Values], method: str, resamples: int) -> GapClosed | None:
    ends = (values.get(UNIFORM), values.get(ORACLE))
    if method in (UNIFORM, ORACLE) or not all(ends):
        return None
    return gap_closed(values[method], ends[0] or {}, ends[1] or {}, resamples)


def _mean(rows: list[dict[str, Any]], key: str) -> float | None:
    known = [row[key] for row in rows if row[key] is not None]
    return sum(known) / len(known) if known else None
