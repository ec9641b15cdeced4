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


def version_differences(record: dict[str, Any]) -> list[str]:
    """Return a sentence for each package whose version is not the recorded one."""
    return [
        f"this run was begun with {name} {before} and goes on with {_version(name)}"
        for name, before in record.get("packages", {}).items()
        if before != _version(name)
    ]


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
