"""The numbers that a run leaves on its way, a row each: evaluations, and summaries of rounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from selffilter.rundir.on_disk import rounds_done
from selffilter.store import STAGES, RunStore, iterate_jsonl

Row = dict[str, Any]

OF_A_ROUND = (
    "loss", "precision", "auc", "selected_clean_share", "overlap", "cue", "cue_sd",
    "cue_sd_error", "selected", "effective_diverse_share_of_selected",
)  # fmt: skip
"""Numbers of a round's summaries."""

_NOT_MEASURED = ("round", "samples_seen", "samples", "unusable")


def final_numbers(store: RunStore) -> dict[tuple[str, str], float]:
    """Return the newest evaluation of a run, of each set: (set, metric) → value, shares of 1."""
    found: dict[tuple[str, str], float] = {}
    for record in _evaluations(store):  # in the order in which they were made
        found |= {(record["set"], metric): value for metric, value in _numbers(record)}
    return found


def round_numbers(store: RunStore) -> Iterator[Row]:
    """Yield round, samples_seen, set (None: of the round itself), metric and value."""
    for record in _evaluations(store):
        axes = {"round": record["round"], "samples_seen": record["samples_seen"]}
        for metric, value in _numbers(record):
            yield axes | {"set": record["set"], "metric": metric, "value": value}
    for round_ in store.rounds():
        summary = round_summary(store, round_)
        axes = {"round": round_, "samples_seen": summary.get("samples_seen"), "set": None}
        for metric in OF_A_ROUND:
            if summary.get(metric) is not None:
                yield axes | {"metric": metric, "value": float(summary[metric])}


def round_summary(store: RunStore, round_: int) -> Row:
    """Return the summaries of a round's finished stages as one."""
    return store.round_summary(round_, [s for s in STAGES if store.is_done(round_, s)])


def last_selection(store: RunStore) -> Row:
    """Return the summary of the newest selection; nothing if there is none."""
    done = rounds_done(store, "select")
    return store.summary(done[-1], "select") if done else {}


def _evaluations(store: RunStore) -> Iterator[Row]:
    for round_ in store.rounds():
        for record in iterate_jsonl(store.round(round_) / "metrics.jsonl"):
            if "set" in record:
                yield record


def _numbers(record: Row) -> Iterable[tuple[str, float]]:
    for key, value in record.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and key not in _NOT_MEASURED:
            yield key, float(value)
