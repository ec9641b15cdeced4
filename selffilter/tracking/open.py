"""The trackers that a config asks for."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from selffilter.config import Config, flatten
from selffilter.errors import UserError
from selffilter.store import RunStore, read_json
from selffilter.tracking.trackers import Dispensable, JsonlTracker, Tracker, Trackers


def check_trackers(config: Config) -> None:
    """Check that what trackers need is installed.

    Raises:
        UserError: If not.
    """
    missing = not (find_spec("tensorboard") or find_spec("tensorboardX"))
    if "tensorboard" in config.track.also and missing:
        raise UserError(
            "track.also=tensorboard needs the package: pip install 'selffilter[tensorboard]'."
        )


def open_trackers(
    config: Config, store: RunStore, *, silent: bool, say: Callable[[str], None]
) -> Trackers:
    """Open the trackers; none on ranks that are silent.

    Args:
        config: Which, and their settings.
        store: The run.
        silent: Whether this rank tracks nothing.
        say: Told what trackers have to say to a person.
    """
    if silent:
        return Trackers([])
    # The first: the others may read what it has kept.
    trackers: list[Tracker] = [JsonlTracker(store)]
    for name in dict.fromkeys(config.track.also):
        from selffilter.tracking.lightning_trackers import CsvTracker, TensorBoardTracker

        made = CsvTracker(store) if name == "csv" else TensorBoardTracker(store)
        trackers.append(Dispensable(made, name, say))
    if config.track.wandb != "disabled":
        from selffilter.tracking.wandb_tracker import WandbTracker

        try:
            tracker = WandbTracker(store, config.name, config.track, _about(config, store), say)
        except Exception as error:
            say(f"W&B cannot be begun ({error}); the run goes on without it")
        else:
            trackers.append(Dispensable(tracker, "W&B", say))
    return Trackers(trackers)


def _about(config: Config, store: RunStore) -> dict[str, Any]:
    """Return the resolved config, and which code and which pool it runs with."""
    path = store.root / "environment.json"
    record: dict[str, Any] = read_json(path) if path.exists() else {}
    code = {key: record.get(key) for key in ("selffilter", "git_commit", "python", "packages")}
    about = {"code": code, "pool_version": record.get("pool", {}).get("version")}
    if "forked_from" in record:
        about["forked_from"] = record["forked_from"]
    return flatten(config) | about
