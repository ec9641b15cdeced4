"""Weights & Biases: one W&B run for all rounds, on axes of its own.

W&B drops a `step` that goes back, and a fresh Trainer starts at 0 each round; so metrics are drawn
over `samples_seen` and `round`, which `define_metric` declares, and W&B's own step only counts.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import wandb

from selffilter.config import TrackConfig
from selffilter.store import RunStore, read_json, write_json
from selffilter.tracking.shown import Output, RoundShown
from selffilter.tracking.trackers import Record, kind_of, numbers_of
from selffilter.tracking.wandb_media import artifact_of, table_of

STEPS_A_PROCESS = 1 << 24
"""W&B's steps of the n-th process of a run begin at n times this.

Offline, a process cannot ask how far the one before it has come, and `wandb sync` takes the files
of one run one after the other: what comes with a step that was there before is lost.
"""

_INIT_S, _FINISH_S = 60.0, 600.0
"""How long to wait for the server at the beginning, and for the last uploads in the end; what is
not uploaded by then lies in the run directory for `wandb sync`."""

_DATA_DIR = "WANDB_DATA_DIR"

AXES = {
    "train/*": "samples_seen",
    "zero_shot/*": "samples_seen",
    "round_summary/*": "round",
    "scores/*": "round",
    "samples/*": "round",
}
"""What is drawn over what."""


class WandbTracker:
    """A W&B run whose id is kept in the run directory, so that a resume continues it.

    Args:
        store: The run directory.
        name: Display name.
        track: Mode ("auto": WANDB_MODE, else online if the user is logged in), project, group, job
            type, images and artifacts.
        about: For W&B's table of settings: the config, which code, which pool.
        say: Told if the server cannot be reached: the run is kept offline then.
    """

    def __init__(
        self,
        store: RunStore,
        name: str,
        track: TrackConfig,
        about: dict[str, Any],
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._id, process = _identity(store.root / "wandb.json")
        self._images, self._artifacts = track.wandb_images, track.wandb_artifacts
        self._step = process * STEPS_A_PROCESS
        # W&B keeps the pictures of tables in the user's home until they are uploaded; a run's
        # belong to the run.
        self._data_dir = os.environ.get(_DATA_DIR)
        os.environ.setdefault(_DATA_DIR, str((store.root / "wandb").resolve()))

        def begin(mode: Literal["online", "offline"]) -> Any:
            return wandb.init(
                id=self._id,
                resume="allow",
                dir=str(store.root),
                mode=mode,
                project=track.wandb_project,
                name=name,
                group=track.wandb_group,
                job_type=track.wandb_job_type,
                config=about,
                settings=wandb.Settings(
                    silent=True, console="off", init_timeout=_INIT_S, finish_timeout=_FINISH_S
                ),
            )

        mode = _mode(track.wandb)
        try:
            self._run = begin(mode)
        except wandb.Error as error:
            if mode == "offline":
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            say(f"W&B cannot be reached ({reason}); kept offline, for `wandb sync` later")
            wandb.teardown()  # else the id is "in use" by the run that has not begun (0.31)
            self._run = begin("offline")
        self._run.define_metric("samples_seen", hidden=True)
        self._run.define_metric("round", hidden=True)
        for name_, axis in AXES.items():
            self._run.define_metric(name_, step_metric=axis)
        if self._artifacts:
            config = store.root / "config.yaml"
            record = store.root / "environment.json"
            files = [path for path in (config, record) if path.exists()]
            if files:
                self._keep(Output("config", "run", store.root, small=files))

    def log(self, record: Record) -> None:
        """Log the numbers of a record under its kind, and alarms as W&B's alerts."""
        kind = kind_of(record)
        values = {f"{kind}/{key}": value for key, value in numbers_of(record).items()}
        self._log(values, record["round"], record["samples_seen"])
        if kind == "round_summary":
            for alarm in record.get("alarms", []):
                self._run.alert(f"guard: {alarm['name']}", alarm["sentence"])

    def begin(self, round_: int, stage: str, samples_seen: int) -> None:
        """Nothing is taken back: W&B draws the later value at the same place."""

    def end_round(self, shown: RoundShown) -> None:
        """Log a round's histograms, its tables of samples and its outputs."""
        values: dict[str, Any] = {}
        for bins in shown.histograms():
            edges = np.linspace(bins.low, bins.high, len(bins.counts) + 1)
            histogram = wandb.Histogram(np_histogram=(np.asarray(bins.counts), edges))
            values[f"scores/{bins.part}"] = histogram
        if self._images:
            for table in shown.tables(self._images):
                values[f"samples/{table.name}"] = table_of(table)
        if values:
            self._log(values, shown.round, shown.samples_seen)
        if self._artifacts:
            for output in shown.outputs():
                self._keep(output)

    def end_run(self, output: Output) -> None:
        """Keep the exported model and subset."""
        if self._artifacts:
            self._keep(output)

    def close(self) -> None:
        """Finish the W&B run in good order."""
        self._run.finish()
        if self._data_dir is None:
            os.environ.pop(_DATA_DIR, None)

    def _log(self, values: dict[str, Any], round_: int, samples_seen: int) -> None:
        self._run.log(values | {"round": round_, "samples_seen": samples_seen}, step=self._step)
        self._step += 1

    def _keep(self, output: Output) -> None:
        self._run.log_artifact(artifact_of(output, self._id), aliases=[output.version, "latest"])


def _identity(path: Path) -> tuple[str, int]:
    """Return the W&B run's id, and how many processes have tracked it before.

    An agent of a sweep gives the id: it is how W&B knows which of the sweep's runs this is.
    """
    kept: dict[str, Any] = read_json(path) if path.exists() else {}
    from_sweep = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None
    id_ = kept.get("id") or from_sweep or uuid.uuid4().hex[:12]
    process = int(kept.get("processes", 0))
    write_json(path, {"id": id_, "processes": process + 1})
    return id_, process


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
