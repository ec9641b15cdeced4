"""A folder that a command fills: begun, gone on with, found complete, or refused.

``OUT/.work/begun.json`` says what was asked for, until a report says that OUT is complete; the
report holds what was asked for under ``settings``.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selffilter.errors import UserError
from selffilter.store import read_json, sweep, write_json

WORK = ".work"


def begun_path(out: Path) -> Path:
    """Return the file that says what was asked for."""
    return out / WORK / "begun.json"


def look_at_folder(
    out: Path, report: str, asked: Mapping[str, Any], what: str, other: Mapping[str, str]
) -> dict[str, Any] | None:
    """Return the report of a complete folder; None if there is work to do there.

    Args:
        out: The folder.
        report: Name of the file that is written last.
        asked: What decides the folder's content, as JSON gives it back.
        what: What such a folder is, for messages: "noisy pool".
        other: Of fields whose values nobody can compare by eye: what differs, in words.

    Raises:
        UserError: If it was begun with something else, or is something else.
    """
    if (out / report).exists():
        try:
            found: dict[str, Any] = read_json(out / report)
            before = dict(found["settings"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{out}/{report} is none of ours: choose another place, or remove {out}."
            ) from error
        _refuse_other(out, before, asked, other)
        shutil.rmtree(out / WORK, ignore_errors=True)
        return found
    if begun_path(out).exists():
        _refuse_other(out, read_json(begun_path(out))["settings"], asked, other)
    elif out.exists() and not (out.is_dir() and all(p.name == WORK for p in out.iterdir())):
        raise UserError(f"{out} is there, and is no {what}: choose another place.")
    return None


def sweep_folder(out: Path) -> None:
    """Remove what a call that was killed has left half written. For who alone works there."""
    sweep(out)


def begin_folder(out: Path, asked: Mapping[str, Any], **more: Any) -> None:
    """Write down what was asked for."""
    write_json(begun_path(out), {"settings": dict(asked), **more})


def finish_folder(out: Path, report: str, content: Mapping[str, Any]) -> None:
    """Write the report and take away what was needed until then."""
    write_json(out / report, content)
    shutil.rmtree(out / WORK, ignore_errors=True)


def _refuse_other(
    out: Path, before: Mapping[str, Any], asked: Mapping[str, Any], other: Mapping[str, str]
) -> None:
    for name, value in asked.items():
        if before.get(name) == value:
            continue
        how = other.get(name) or f"with {name}={before.get(name)}, not {value}"
        raise UserError(f"{out} was made {how}: choose another place, or remove it.")
