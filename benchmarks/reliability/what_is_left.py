"""What a run has left on the disk, as something that can be compared: all but times."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import torch

_MEASURED = {
    "samples_per_s", "data_wait", "read_mb", "read_requests", "read_ahead", "step_s",
    "peak_memory_mb", "tflops", "mfu", "continued",
}  # fmt: skip
"""Keys of records: how fast this machine was, and when a run was gone on with."""


def what_is_left(folder: Path) -> dict[str, Any]:
    """Return each file below a folder, hidden ones too, with what is in it.

    Tables, selections, weights and everything else: the SHA-256 of the bytes. Checkpoints: of the
    step and of the bytes of each tensor. Records and summaries: their values, without the times.
    Where the folder itself lies makes no difference.
    """
    return {
        str(path.relative_to(folder)): _content(path, folder)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Return a line for each file that differs, is missing, or should not be there."""
    said = [f"missing: {name}" for name in sorted(expected.keys() - found.keys())]
    said += [f"left over: {name}" for name in sorted(found.keys() - expected.keys())]
    both = sorted(expected.keys() & found.keys())
    return said + [f"differs: {name}" for name in both if expected[name] != found[name]]


def kind_of(name: str) -> str:
    """Return a file's name without what counts: rounds, shards, steps, fingerprints."""
    name = re.sub(r"rounds/\d{3}", "rounds/RRR", name)
    name = re.sub(r"\d{5}(\.image|\.text)?\.(parquet|npy)", r"SSSSS\1.\2", name)
    name = re.sub(r"step-\d+", "step-S", name)
    return re.sub(r"[0-9a-f]{16,}", "FINGERPRINT", name)


def _content(path: Path, folder: Path) -> Any:
    if path.suffix == ".ckpt":
        return _plain(torch.load(path, map_location="cpu", weights_only=True))
    if path.suffix in (".json", ".jsonl", ".yaml"):
        text = path.read_text(encoding="utf-8").replace(str(folder), "FOLDER")
        if path.suffix == ".jsonl":
            return [_without_times(json.loads(line)) for line in text.splitlines()]
        return _without_times(json.loads(text)) if path.suffix == ".json" else text
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _without_times(record: Any) -> Any:
    if not isinstance(record, dict):
        return record
    return {key: value for key, value in record.items() if key not in _MEASURED}


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        data = value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        return (str(value.dtype), tuple(value.shape), hashlib.sha256(data).hexdigest())
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return value
