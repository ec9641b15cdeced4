"""What a run was made with, for its record and for a warning when that changes."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import selffilter

_PACKAGES = ("torch", "open_clip_torch", "lightning", "webdataset", "numpy", "pyarrow", "pillow")


def describe(seed: int) -> dict[str, Any]:
    """Return versions, platform, seed and the git commit of this code (if it is a checkout)."""
    return {
        "selffilter": selffilter.__version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "seed": seed,
        "git_commit": _git_commit(),
    }


def differences(record: dict[str, Any], now: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return what is not as it was: name of a package, or of a field, → before and now.

    Args:
        record: What `describe` returned when the run was begun.
        now: What it returns.
    """
    before, after = (_flat(each) for each in (record, now))
    return {
        name: (before[name], value)
        for name, value in after.items()
        if name in before and before[name] != value
    }


def version_differences(changed: dict[str, tuple[Any, Any]]) -> list[str]:
    """Return a sentence for each package, and Python, whose version is another one.

    Args:
        changed: See `differences`.
    """
    return [
        f"this run was begun with {name} {before} and goes on with {now}"
        for name, (before, now) in changed.items()
        if name in (*_PACKAGES, "python", "selffilter")
    ]


def _flat(described: dict[str, Any]) -> dict[str, Any]:
    names = ("selffilter", "python", "platform", "git_commit")
    fields = {name: described[name] for name in names if name in described}
    return fields | described.get("packages", {})


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _git_commit() -> str | None:
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
