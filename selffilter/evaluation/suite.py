"""Many sets, one model: a file of results a set, and what is done is not done again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selffilter import environment
from selffilter.clip.checkpoint import Checkpoint
from selffilter.errors import UserError
from selffilter.evaluation.evaluate import EvaluationSettings, evaluate
from selffilter.evaluation.sets import EvaluationSet
from selffilter.progress import Bar, NoBar
from selffilter.store import read_json, write_json

METRICS_VERSION = 1
"""Raised when a metric comes to mean something else: results of before are then made anew."""

Result = dict[str, Any]
OpenBar = Callable[[str, int], AbstractContextManager[Bar]]


@dataclass
class SuiteReport:
    """What came of a suite.

    Attributes:
        results: Name of the set → what its file says.
        problems: Name of the set → why it has no result.
        kept: Names of the sets whose result was there already.
    """

    results: dict[str, Result] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)


def evaluate_sets(
    checkpoint: Checkpoint,
    sets: list[EvaluationSet],
    out: Path,
    settings: EvaluationSettings,
    say: Callable[[str], None] = lambda _: None,
    open_bar: OpenBar = lambda *_: nullcontext(NoBar()),
) -> SuiteReport:
    """Evaluate a model on every set whose result does not lie in `out`.

    ``out/NAME.json`` is CLIP_benchmark's result with ``selffilter`` beside it. It is kept while
    weights, set, precision, ``max_pixels`` and `METRICS_VERSION` are those it was made with.

    Args:
        checkpoint: The model.
        sets: Under different names.
        out: Where the files go.
        settings: How.
        say: Told what is worth knowing.
        open_bar: Opens a bar with a title and a number of kilobytes.
    """
    report = SuiteReport()
    for data in sets:
        path = out / f"{data.name}.json"
        key = _key(checkpoint, data, settings)
        result = _read(path)
        if result and result["selffilter"]["key"] == key:
            report.kept.append(data.name)
        else:
            if result:
                say(f"{data.name}: evaluated again, for model, set or settings have changed")
            try:
                result = _evaluate(checkpoint, data, settings, open_bar)
            except UserError as error:
                report.problems[data.name] = str(error)
                say(f"{data.name}: {error}")
                continue
            result["selffilter"]["key"] = key
            write_json(path, result)
        report.results[data.name] = result
    return report


def _evaluate(
    checkpoint: Checkpoint, data: EvaluationSet, settings: EvaluationSettings, open_bar: OpenBar
) -> Result:
    size = data.total_bytes
    bar = open_bar(f"{data.name}  kB", size // 1000) if size else nullcontext(NoBar())
    began = time.monotonic()
    with bar as progress:
        found = evaluate(checkpoint.model, checkpoint.recipe, data, settings, progress)
    described = environment.describe(seed=0)
    del described["seed"]  # nothing is random
    return {
        "dataset": data.name,
        "model": checkpoint.name,
        "pretrained": checkpoint.pretrained,
        "task": found.task,
        "language": "en",
        "metrics": found.metrics,
        "selffilter": {
            "weights": checkpoint.fingerprint,
            "set": {
                "location": data.location,
                "split": data.split,
                "kind": data.kind,
                "fingerprint": data.fingerprint,
            },
            "settings": {
                **_exact(settings),
                "batch_size": settings.batch_size,
                "device": next(checkpoint.model.parameters()).device.type,
            },
            "samples": found.samples,
            "unusable": found.unusable,
            "seconds": round(time.monotonic() - began, 1),
            "environment": described,
        },
    }


def _exact(settings: EvaluationSettings) -> dict[str, Any]:
    """Return the settings that change a result by more than rounding."""
    autocast = settings.autocast
    return {
        "precision": "float32" if autocast is None else str(autocast).removeprefix("torch."),
        "max_pixels": settings.max_pixels,
    }


def _key(checkpoint: Checkpoint, data: EvaluationSet, settings: EvaluationSettings) -> str:
    made_with = [
        METRICS_VERSION,
        checkpoint.fingerprint,
        checkpoint.recipe.preprocess,
        data.fingerprint,
        data.split,
        _exact(settings),
    ]
    return hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()[:32]


def _read(path: Path) -> Result | None:
    """Return a result of ours, or None: whatever else lies there is made anew."""
    try:
        result = read_json(path)
        result["metrics"], result["selffilter"]["key"], result["selffilter"]["samples"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return dict(result)
