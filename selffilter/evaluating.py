"""`selffilter evaluate`: a trained model on sets, and on those of DataComp that are there."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import torch

from selffilter.clip.checkpoint import open_checkpoint
from selffilter.config import nearest
from selffilter.errors import UserError
from selffilter.evaluation.datacomp import (
    COUNTED,
    DATACOMP_TASKS,
    NOT_BUILT,
    DataCompTask,
    aggregate,
    find_datacomp_sets,
    result_line,
)
from selffilter.evaluation.evaluate import EvaluationSettings
from selffilter.evaluation.sets import EvaluationSet, open_sets, refuse_same_names
from selffilter.evaluation.suite import Result, SuiteReport, evaluate_sets
from selffilter.store import write_jsonl
from selffilter.team import join_team
from selffilter.tracking.console import Screen

PRECISIONS = {"32-true": None, "bf16-mixed": torch.bfloat16}
ACCELERATORS = ("auto", "cpu", "gpu")

SHOWN = {
    "zeroshot_classification": {
        "acc1": "acc1", "acc5": "acc5", "recall": "mean_per_class_recall", "F1": "macro_f1",
        "worst": "worst_class_recall", "MRR": "mean_reciprocal_rank",
        "mAP": "mean_average_precision",
    },
    "zeroshot_retrieval": {
        f"{short} R@{k}": f"{what}_retrieval_recall@{k}"
        for short, what in (("image", "image"), ("text", "text"))
        for k in (1, 5, 10)
    },
    "zeroshot_association": {
        "Jaccard": "avg_jaccard_score", "5-6": "jaccard_score_5-6", "10-12": "jaccard_score_10-12",
    },
}  # fmt: skip
"""Task → heading → metric; a column is left out where no set has it."""


def run_evaluation(
    checkpoint: str,
    specs: list[str],
    *,
    out: Path | None = None,
    datacomp: Path | None = None,
    split: str = "test",
    batch_size: int = 256,
    workers: int = 4,
    accelerator: str = "auto",
    precision: str = "32-true",
    as_json: bool = False,
) -> None:
    """Evaluate, and print a table.

    Args:
        checkpoint: See `open_checkpoint`.
        specs: See `EvaluationSet`.
        out: Where results go; None: ``evaluation/`` in a run directory, else ``evaluation/NAME``.
        datacomp: A folder with DataComp's sets.
        split: The folder of the shards in each set.
        batch_size: Samples encoded together.
        workers: Processes that decode.
        accelerator: One of `ACCELERATORS`.
        precision: One of `PRECISIONS`.
        as_json: Print JSON instead of a table.

    Raises:
        UserError: If model or sets are not there; at the end, if a set could not be evaluated.
    """
    _check(specs, datacomp, batch_size, workers, accelerator, precision)
    screen = Screen()
    sets = open_sets(specs, split)
    missing: list[DataCompTask] = []
    by_key: dict[str, EvaluationSet] = {}
    if datacomp is not None:
        by_key, missing = find_datacomp_sets(datacomp, split)
        refuse_same_names(sets := [*sets, *by_key.values()])
        if not sets:
            raise UserError(f"{datacomp} has none of DataComp's sets (wds_NAME_test).")
    model = open_checkpoint(checkpoint, join_team(accelerator).device)
    settings = EvaluationSettings(batch_size, workers, PRECISIONS[precision])
    where = out or _default_out(checkpoint)
    where.mkdir(parents=True, exist_ok=True)  # fails now, not after the first set
    report = evaluate_sets(model, sets, where, settings, screen.say, screen.bar)
    if report.kept:
        screen.say(f"evaluated before, and kept: {', '.join(report.kept)}")
    said: dict[str, Any] = {"results": list(report.results.values()), "problems": report.problems}
    text = [results_table(list(report.results.values()))]
    if datacomp is not None:
        lines = _datacomp_lines(report, by_key, screen)
        write_jsonl(where / "eval_results.jsonl", lines)
        absent = [task.name for task in missing]
        said["datacomp"] = {"lines": lines, "missing": absent, "aggregate": aggregate(lines)}
        text.append(datacomp_table(lines, absent))
    print(json.dumps(said, ensure_ascii=False, indent=2) if as_json else "\n\n".join(text))
    screen.say(f"\nresults  {where}")
    if report.problems:
        raise UserError(
            f"not evaluated: {', '.join(report.problems)}. The same command goes on with them."
        )


def results_table(results: list[Result]) -> str:
    """Return a table for each task that occurs; shares of 1 as percent."""
    tables = []
    for task, columns in SHOWN.items():
        of_task = [result for result in results if result["task"] == task]
        shown = {
            heading: metric
            for heading, metric in columns.items()
            if any(metric in result["metrics"] for result in of_task)
        }
        rows = [["set", "samples", "unusable", *(f"{heading} %" for heading in shown)]]
        for result in of_task:
            about = result["selffilter"]
            counts = (about["samples"], sum(about["unusable"].values()))
            cells = [_percent(result["metrics"].get(metric)) for metric in shown.values()]
            rows.append([result["dataset"], *(f"{count:,}" for count in counts), *cells])
        if of_task:
            tables.append(_aligned(rows))
    return "\n\n".join(tables)


def datacomp_table(lines: list[dict[str, Any]], missing: list[str]) -> str:
    """Return DataComp's main metrics, its means, and what they lack."""
    theirs = {task.name: task.main_metric or "" for task in DATACOMP_TASKS}
    rows = [["DataComp", "main metric", "%"]]
    for line in lines:
        name = line["dataset"]
        rows.append([name, theirs[name], _percent(line["metrics"]["main_metric"])])
    means = aggregate(lines)
    rows += [[f"mean: {name}", "", _percent(mean)] for name, mean in means.items()]
    text = [_aligned(rows), f"{len(lines)} of {len(COUNTED)} tasks that count"]
    if missing:
        text[-1] += f"; not there: {', '.join(missing)}"
    left_out = [task.name for task in DATACOMP_TASKS if task not in COUNTED]
    text.append(f"left out: {', '.join(left_out)} ({NOT_BUILT})")
    return "\n".join(text)


def _datacomp_lines(
    report: SuiteReport, by_key: dict[str, EvaluationSet], screen: Screen
) -> list[dict[str, Any]]:
    lines = []
    for task in COUNTED:
        data = by_key.get(task.key)
        if data is None or data.name not in report.results:
            continue
        result = report.results[data.name]
        lines.append(result_line(task, result["metrics"]))
        samples = result["selffilter"]["samples"]
        if task.size not in (None, samples):
            screen.say(f"note: {task.name} has {samples:,} samples, DataComp's has {task.size:,}")
    return lines


def _check(
    specs: list[str],
    datacomp: Path | None,
    batch_size: int,
    workers: int,
    accelerator: str,
    precision: str,
) -> None:
    if not specs and datacomp is None:
        raise UserError("name a set to evaluate on (a folder or a URL), or --datacomp FOLDER.")
    if datacomp is not None and not datacomp.is_dir():
        raise UserError(f"--datacomp {datacomp}: there is no such folder.")
    for name, value, choices in (
        ("--accelerator", accelerator, ACCELERATORS),
        ("--precision", precision, tuple(PRECISIONS)),
    ):
        if value not in choices:
            raise UserError(
                f"{name} {value!r} is not one of {', '.join(choices)}.{nearest(value, choices)}"
            )
    if batch_size < 1 or workers < 0:
        raise UserError(f"--batch-size {batch_size} or --workers {workers} is too small.")
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError("evaluate runs in one process: start it without torchrun.")


def _default_out(checkpoint: str) -> Path:
    if (Path(checkpoint) / "config.yaml").is_file():
        return Path(checkpoint) / "evaluation"
    return Path("evaluation") / re.sub(r"[^\w.-]+", "-", checkpoint).strip("-.")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
