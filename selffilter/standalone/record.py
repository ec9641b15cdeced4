"""The record of a folder of scores: whose rows, which scorer. Two scorers never share a folder.

``scores.json`` holds

- ``source``: which rows: a version of a pool index, or the fingerprint of a folder of embeddings;
- ``scorer``: everything that decides what a score is (model, transform, signals, seed, …);
- ``made_with``: versions and the kind of device it was begun with, which decide the last bits.

Names and places in them are for people: a model that was moved is the same model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from selffilter import environment
from selffilter.errors import UserError
from selffilter.store import read_json, write_json, write_once

NAME = "scores.json"
VERSION = 1
NO_ROUND = -1
"""What `scored_round` says where no run has scored."""

_FOR_PEOPLE = ("name", "location")
_TAIL_BYTES = 1 << 16

Record = dict[str, Any]


def make_record(source: Record, scorer: Record, seed: int, device: str) -> Record:
    """Return the record of scores, as JSON gives it back."""
    made_with = environment.describe(seed) | {"device": device}
    record = {"version": VERSION, "source": source, "scorer": scorer, "made_with": made_with}
    plain: Record = json.loads(json.dumps(record))
    return plain


def begin_scores(out: Path, record: Record) -> list[str]:
    """Begin a folder of scores, or check that it may be gone on with.

    Several processes may begin it at the same time.

    Returns:
        A sentence for each difference in `made_with`, which is no reason to refuse.

    Raises:
        UserError: If it has scores of another source or scorer, or is something else.
    """
    refuse_other_scores(out, record)
    out.mkdir(parents=True, exist_ok=True)
    write_once(out / NAME, lambda aside: write_json(aside, record))
    refuse_other_scores(out, record)  # another process may have been faster
    before = read_record(out)["made_with"]
    said = [
        sentence.replace("this run was", f"{out} was")
        for sentence in environment.version_differences(
            environment.differences(before, record["made_with"])
        )
    ]
    device, now = before.get("device"), record["made_with"]["device"]
    if device != now:
        said.append(f"{out} was begun on {device} and goes on on {now}: the last bits may differ")
    return said


def refuse_other_scores(out: Path, record: Record) -> None:
    """Refuse a folder that has scores of another source or scorer, or is something else.

    Raises:
        UserError: If so.
    """
    # In this order: another process may just be beginning it.
    if _holds_something(out) and not (out / NAME).exists():
        raise UserError(f"{out} is there, and is no folder of scores: choose another place.")
    if not (out / NAME).exists():
        return
    before = read_record(out)
    for part in ("source", "scorer"):
        if found := differences(before[part], record[part]):
            raise UserError(
                f"{out} has scores of another {part}: {found[0]}. They are never mixed: give these "
                "a folder of their own."
            )


def read_record(folder: Path) -> Record:
    """Read the record of a folder of scores.

    Raises:
        UserError: If there is none, or it is not one of ours.
    """
    path = folder / NAME
    if not path.exists():
        raise UserError(f"{folder} is no folder of scores: it has no {NAME}.")
    try:
        record: Record = read_json(path)
        shards, rows = record["source"]["shards"], record["source"]["rows"]
        if record["version"] != VERSION or not isinstance(record["scorer"]["signals"], list):
            raise ValueError(f"version {record['version']}, and this reads {VERSION}")
        if not all(isinstance(count, int) and count >= 0 for count in (shards, rows)):
            raise ValueError("it does not say how many rows and shards there are")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no record of scores: {error}.") from error
    return record


def differences(before: Any, now: Any, where: str = "") -> list[str]:
    """Return a phrase for each value that differs between two records."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            phrase
            for key in [*before, *(key for key in now if key not in before)]
            if key not in _FOR_PEOPLE
            for phrase in differences(
                before.get(key), now.get(key), f"{where}.{key}" if where else key
            )
        ]
    return [] if before == now else [f"{where} is {_short(before)} there and {_short(now)} here"]


def files_fingerprint(paths: Iterable[Path]) -> str:
    """Return 32 hex digits of files' names, sizes and last 64 KiB, in order.

    The end of a Parquet has its statistics, that of an .npz the checksums of what is in it.

    Raises:
        UserError: If one cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - _TAIL_BYTES))
                digest.update(f"{path.name} {size};".encode() + file.read())
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    return digest.hexdigest()[:32]


def _holds_something(out: Path) -> bool:
    if not out.is_dir():
        return out.exists()
    return any(not path.name.startswith(".") for path in out.iterdir())


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "…"
