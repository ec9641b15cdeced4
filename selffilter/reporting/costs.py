"""The last sections: what a run has cost, and what it was made with."""

from __future__ import annotations

from typing import Any

from selffilter.config import Config, flatten, leaves
from selffilter.planning import TRAINING_TO_FORWARD, compute_spent
from selffilter.reporting.axes import brief
from selffilter.reporting.found import Found
from selffilter.reporting.markup import Markup, element, joined
from selffilter.reporting.parts import fields, number, percent, table


def compute(found: Found) -> Markup:
    """What training and scoring have cost."""
    heads = ["round", "samples", "samples/s", "minutes", "TFLOP/s", "data wait", "memory, MB",
             "scores from", "rows scored"]  # fmt: skip
    rows: list[list[str]] = []
    before = 0
    for summary in found.summaries:
        if "samples_seen" not in summary:
            continue
        trained = summary["samples_seen"] - before
        before = summary["samples_seen"]
        rate = summary.get("samples_per_s")
        account = summary.get("account", {})
        scored = account.get("base_scored", 0) + account.get("probe", 0) + account.get("outside", 0)
        of_model = summary.get("scores_from") == "model"
        rows.append(
            [
                str(summary["round"]), f"{trained:,}", number(rate, ".0f"),
                number(trained / rate / 60 if rate else None, ".1f"),
                number(summary.get("tflops"), ".3g"), percent(summary.get("data_wait")),
                number(summary.get("peak_memory_mb"), ",.0f"),
                summary.get("scores_from", "–"), f"{scored:,}" if of_model and account else "–",
            ]
        )  # fmt: skip
    return joined(
        element("p", _totals(found), class_="story"),
        table(heads, rows) if rows else None,
        element(
            "p",
            "Minutes are those of the steps alone. Rows scored are those that have a score after "
            "the round; with score.rescore or score.fraction some of them keep an earlier one.",
            class_="about",
        ),
    )


def config(found: Found) -> Markup:
    """What differs from the defaults, the rest, and what the run was made with."""
    run = found.run
    changed = changed_fields(run.config)
    everything = flatten(run.config)
    environment = dict(leaves(found.environment))
    return joined(
        element("h3", "Other than by default"),
        fields(changed),
        element(
            "details",
            element("summary", f"All {len(everything)} fields"),
            fields(everything),
            class_="fold",
        ),
        element("h3", "Environment"),
        fields(environment),
    )


def changed_fields(config: Config) -> dict[str, Any]:
    """Return the fields of a config that are not as by default."""
    default = flatten(Config())
    return {key: value for key, value in flatten(config).items() if default.get(key) != value}


def _totals(found: Found) -> str:
    spent = found.compute
    if spent is not None:
        training, scoring = spent["training_flops"], spent["scoring_flops"]
        told = (
            f"Training on {spent['samples_seen']:,} samples has cost {training:.3g} FLOPs; "
            f"{spent['scoring_passes']} passes over the pool that training has used, "
            f"{scoring:.3g} FLOPs"
        )
        if training:
            told += f", {scoring / training:.0%} of that"
        told += "."
        if spent.get("clean_share") is not None:
            told += f" Of the samples seen {spent['clean_share']:.1%} were right pairs."
        return told
    if not found.selections:
        return "The account is written when the run is finished."
    last = found.selections[-1]
    planned = compute_spent(found.run.config, last["base"], last["account"]["indexed"], 1.0)
    return (
        f"As planned, training will cost {brief(planned['training_flops'])} forward passes of a "
        f"pair ({TRAINING_TO_FORWARD} a sample), scoring {brief(planned['scoring_flops'])} "
        f"({planned['scoring_passes']} passes over the pool). FLOPs are written when the run is "
        "finished."
    )
