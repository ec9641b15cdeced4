"""What a selection is like: how it moved, whom it favours, whether it closes in on itself.

Leaves ``selection/about/groups.parquet`` (rates of each group of each watched grouping) and
``selection/about/histograms.json``; the numbers go into the stage's summary.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from selffilter.selecting.bias import (
    UNKNOWN_NAME,
    SelectionRates,
    least_and_most,
    selection_rates,
    vanishing,
)
from selffilter.selecting.choice import Choice
from selffilter.selecting.drift import confident_lead, moved, rank_correlation, repeat_counts
from selffilter.selecting.groups import Groups
from selffilter.selecting.guard import Measured
from selffilter.selecting.histograms import histograms
from selffilter.selecting.on_disk import Scores, read_scores, read_shares
from selffilter.selecting.scratch import Scratch
from selffilter.stages.context import RunContext, Summary
from selffilter.store import write_json
from selffilter.tables import HISTOGRAMS, RATES, read_table, write_table

_NAMED = 5


@dataclass(frozen=True)
class Before:
    """The selection that the round's model was trained on.

    Attributes:
        confident_N: bool.
        diverse_N: bool.
    """

    confident_N: NDArray[np.bool_]
    diverse_N: NDArray[np.bool_]

    @classmethod
    def of(cls, context: RunContext, round_: int, scratch: Scratch) -> Before | None:
        """Read it; None in the bootstrap round."""
        if not round_:
            return None
        folder = context.store.stage(round_ - 1, "select")
        shares = read_shares(folder, context.pool, scratch)
        return cls(shares["confident"], shares["diverse"])


@dataclass(frozen=True)
class Seen:
    """What was seen of a selection.

    Attributes:
        summary: For the stage's summary.
        measured: For the guard.
        rates: Of each watched grouping.
    """

    summary: Summary
    measured: Measured
    rates: list[SelectionRates]


def look_at(
    choice: Choice, base_N: NDArray[np.bool_], groups: list[Groups], before: Before | None,
    scores_N: NDArray[np.float32],
) -> Seen:  # fmt: skip
    """Measure a choice by itself and against the one before.

    Args:
        choice: What is selected.
        base_N: What it was selected from.
        groups: The watched groupings.
        before: The selection before.
        scores_N: Of the model that was trained on that.
    """
    selected_N = choice.weight_N > 0
    rates = [selection_rates(by, base_N, selected_N, choice.weight_N) for by in groups]
    counts = choice.counts()
    repeats = repeat_counts(choice.weight_N)
    summary: Summary = {
        "most_repeats": repeats.most,
        "effective_rows": repeats.effective_rows,
        "rows_of_weight": repeats.rows_of_weight,
        "coverage": {r.grouping: r.coverage_ratio for r in rates},
        "entropy": {r.grouping: r.entropy_ratio for r in rates},
        "favoured": {r.grouping: _favoured(r) for r in rates},
    }
    retention = lead = None
    if before is not None:
        confident = moved(before.confident_N, choice.confident_N)
        retention = confident.retention
        led = confident_lead(scores_N, before.confident_N, before.diverse_N)
        lead = led.in_sd
        summary |= {
            "overlap": confident.jaccard,
            "retention": retention,
            "kept": confident.kept,
            "new": confident.new,
            "dropped": confident.dropped,
            "lead": led.difference,
            "lead_sd": lead,
            "lead_sd_error": led.standard_error,
        }
    measured = Measured(
        rows=counts["selected"],
        diverse_share=counts["effective_diverse_share_of_selected"],
        retention=retention,
        lead_sd=lead,
        coverage=summary["coverage"],
        entropy=summary["entropy"],
    )
    return Seen(summary, measured, rates)


def write_seen(
    context: RunContext,
    round_: int,
    seen: Seen,
    choice: Choice,
    scores: Scores,
    base_N: NDArray[np.bool_],
    scratch: Scratch,
) -> Summary:
    """Write the tables, and compare with the rounds before.

    Returns:
        What this adds to the summary: groups that are vanishing, rank correlation.
    """
    folder = context.store.stage(round_, "select")
    signal = context.config.score.signal
    scores_N = scores.columns[signal]
    if seen.rates:
        write_table(folder / RATES, pa.concat_tables([_named_table(r) for r in seen.rates]))
    parts = {
        "base": base_N,
        "confident": choice.confident_N,
        "diverse": choice.diverse_N,
        "probe": scores.probe_N,
    }
    shapes = histograms(scores_N, parts)
    found = {
        name: {"low": shape.low, "high": shape.high, "counts": shape.counts_B.tolist()}
        for name, shape in shapes.items()
    }
    write_json(folder / HISTOGRAMS, {"signal": signal, "parts": found})
    summary: Summary = {"vanishing": _vanishing(context, round_, seen.rates)}
    if round_:
        earlier = context.store.stage(round_ - 1, "score")
        before_N = read_scores(earlier, context.pool, [signal], scratch).columns[signal]
        correlation = rank_correlation(before_N, scores_N, context.config.seed)
        summary["rank_correlation"] = correlation.value
    return summary


def _named_table(rates: SelectionRates) -> pa.Table:
    table = rates.table()
    return table.add_column(0, "grouping", pa.array([rates.grouping] * table.num_rows, pa.string()))


def _favoured(rates: SelectionRates) -> dict[str, list[dict[str, Any]]]:
    least, most = least_and_most(rates, _NAMED)
    return {"least": [asdict(rate) for rate in least], "most": [asdict(rate) for rate in most]}


def _vanishing(
    context: RunContext, round_: int, rates: list[SelectionRates]
) -> dict[str, list[dict[str, Any]]]:
    """Name groups that the run is losing. Clusters are each round's own and cannot be followed."""
    found = {}
    for latest in rates:
        if latest.grouping == "cluster":
            continue
        paths = [context.store.stage(r, "select") / RATES for r in range(round_)]
        earlier = [_read_rates(path, latest) for path in paths if path.exists()]
        if lost := vanishing([*earlier, latest]):
            found[latest.grouping] = [asdict(group) for group in lost]
    return found


def _read_rates(path: Path, like: SelectionRates) -> SelectionRates:
    """Read an earlier round's rates of the same grouping; 0 where it had no row of a group."""
    table = read_table(path)
    table = table.filter(pc.equal(table["grouping"], like.grouping))
    place_of = {name: place for place, name in enumerate([*like.names, UNKNOWN_NAME])}
    places = [place_of[name] for name in table["group"].to_pylist()]

    def counts(column: str) -> NDArray[np.int64]:
        counts_G = np.zeros(len(place_of), np.int64)
        counts_G[places] = table[column].to_numpy()
        return counts_G

    return SelectionRates(
        like.grouping, like.names, counts("base"), counts("selected"), counts("samples")
    )
