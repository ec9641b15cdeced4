"""Where a run stands, read from its directory: of one that runs, stopped, or was killed."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from selffilter.config import read_run_config
from selffilter.planning import round_steps, stages_of
from selffilter.rundir.on_disk import open_store
from selffilter.store import RunStore, iterate_jsonl, lease_holder, read_json

RUNNING, SILENT, STOPPED, FINISHED = "running", "silent", "stopped", "finished"
"""A process works on it; its process is gone, or does not answer; nobody does; all is done."""


@dataclass(frozen=True)
class Status:
    """A run at one moment.

    Attributes:
        run_dir: Where it lies.
        state: One of `RUNNING`, `SILENT`, `STOPPED`, `FINISHED`.
        samples_seen: Trained on so far, as far as records say.
        samples_total: Of the whole run.
        rounds_total: Of the whole run, the bootstrap counted.
        rounds: Summaries of the rounds all of whose stages are done, ascending.
        next: ``round`` and ``stage`` of what is going on or comes next; None: all are done.
        progress: What `ProgressFile` keeps, and its ``age_s``; None: nothing is going on.
        training: Of the round's last record ``loss``, ``samples_per_s``, ``data_wait``, and
            ``seconds_left`` of the training of the whole run at that speed; None: no record.
        holder: See `lease_holder`.
        alarms: Of the guard, each with its round.
    """

    run_dir: str
    state: str
    samples_seen: int
    samples_total: int
    rounds_total: int
    rounds: list[dict[str, Any]] = field(default_factory=list)
    next: dict[str, Any] | None = None
    progress: dict[str, Any] | None = None
    training: dict[str, Any] | None = None
    holder: dict[str, Any] | None = None
    alarms: list[dict[str, Any]] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return asdict(self)


def read_status(run_dir: Path) -> Status:
    """Read where a run stands.

    Raises:
        UserError: If there is no run.
    """
    store = open_store(run_dir)
    config = read_run_config(store.config_path)
    holder = lease_holder(store.root)
    finished = (store.final / "compute.json").exists()
    state = FINISHED if finished else STOPPED
    if holder is not None:
        state = RUNNING if holder["alive"] else SILENT
    summaries, following = [], None
    for steps in round_steps(config):
        stages = stages_of(config, steps.round)
        missing = next((s for s in stages if not store.is_done(steps.round, s)), None)
        if missing is None:
            summaries.append(store.round_summary(steps.round, stages))
        else:
            following = {"round": steps.round, "stage": missing}
            break
    seen, training = _training(store, config.rounds.samples_seen)
    alarms = [
        {"round": summary["round"]} | alarm
        for summary in summaries
        for alarm in summary.get("alarms", [])
    ]
    return Status(
        run_dir=str(run_dir),
        state=state,
        samples_seen=seen,
        samples_total=config.rounds.samples_seen,
        rounds_total=config.rounds.count,
        rounds=summaries,
        next=following,
        progress=_progress(store) if state == RUNNING else None,
        training=training,
        holder=holder,
        alarms=alarms,
    )


def _training(store: RunStore, total: int) -> tuple[int, dict[str, Any] | None]:
    """Read samples seen and the last record of training, from the newest rounds' metrics.

    The file of the whole run is gathered only when a process ends.
    """
    seen = 0
    for round_ in reversed(store.rounds()):
        records = list(iterate_jsonl(store.round(round_) / "metrics.jsonl"))
        seen = max([seen, *(record["samples_seen"] for record in records)])
        last = next((r for r in reversed(records) if r["kind"] == "train"), None)
        if last is not None:
            speed = last.get("samples_per_s")
            left = max(0, total - seen) / speed if speed else None
            kept = {key: last.get(key) for key in ("loss", "samples_per_s", "data_wait")}
            return seen, kept | {"seconds_left": left}
    return seen, None


def _progress(store: RunStore) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = read_json(store.root / "progress.json")
        age = max(0.0, time.time() - record.pop("time"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record | {"age_s": age}
