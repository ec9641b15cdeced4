"""Weights & Biases: one W&B run for all rounds, on axes of its own.

W&B drops a `step` that goes back, and a fresh Trainer starts at 0 each round; so metrics are drawn
over `samples_seen` and `round`, which `define_metric` declares.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any, Literal

import wandb

from selffilter.store import RunStore, read_json, write_json
from selffilter.tracking.trackers import Record


class WandbTracker:
    """A W&B run whose id is kept in the run directory, so that a resume continues it.

    Args:
        store: The run directory.
        config: The resolved config, for W&B's table.
        mode: "online", "offline" or "auto": WANDB_MODE, else online if the user is logged in.
        project: W&B project.
        name: Display name.
        group: W&B group, or None.
    """

    def __init__(
        self,
        store: RunStore,
        config: dict[str, Any],
        *,
        mode: str,
        project: str,
        name: str,
        group: str | None,
    ) -> None:
        identity = store.root / "wandb.json"
        if not identity.exists():
            write_json(identity, {"id": uuid.uuid4().hex[:12]})
        self._run = wandb.init(
            id=read_json(identity)["id"],
            resume="allow",
            dir=str(store.root),
            mode=_mode(mode),
            project=project,
            name=name,
            group=group,
            config=config,
            settings=wandb.Settings(silent=True, console="off"),
        )
        self._run.define_metric("samples_seen", hidden=True)
        self._run.define_metric("round", hidden=True)
        self._run.define_metric("train/*", step_metric="samples_seen")
        self._run.define_metric("zero_shot/*", step_metric="samples_seen")
        self._run.define_metric("round_summary/*", step_metric="round")

    def log(self, record: Record) -> None:
        """Log the numbers of a record under its kind."""
        kind = record["kind"]
        if kind == "zero_shot":
            kind = f"zero_shot/{record['set']}"
        values = {
            f"{kind}/{key}": value
            for key, value in record.items()
            if isinstance(value, int | float) and key not in ("round", "samples_seen")
        }
        axes = {"round": record["round"], "samples_seen": record["samples_seen"]}
        self._run.log(values | axes)

    def begin(self, round_: int, stage: str, samples_seen: int) -> None:
        """Nothing is taken back: W&B draws the later value at the same place."""

    def close(self) -> None:
        """Finish the W&B run in good order."""
        self._run.finish()


def _mode(asked: str) -> Literal["online", "offline"]:
    if asked == "auto":
        by_default = "online" if logged_in() else "offline"
        asked = os.environ.get("WANDB_MODE", by_default)
    return "online" if asked == "online" else "offline"


def logged_in() -> bool:
    """Whether this user has an API key, without asking the network."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    return netrc.exists() and "wandb.ai" in netrc.read_text(errors="ignore")
