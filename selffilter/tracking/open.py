"""The trackers that a config asks for."""

from __future__ import annotations

from selffilter.config import Config, flatten
from selffilter.store import RunStore
from selffilter.tracking.trackers import JsonlTracker, Tracker, Trackers


def open_trackers(config: Config, store: RunStore, *, silent: bool) -> Trackers:
    """Open the trackers; none on ranks that are silent."""
    if silent:
        return Trackers([])
    trackers: list[Tracker] = [JsonlTracker(store)]
    if config.track.wandb != "disabled":
        from selffilter.tracking.wandb_tracker import WandbTracker

        trackers.append(
            WandbTracker(
                store,
                flatten(config),
                mode=config.track.wandb,
                project=config.track.wandb_project,
                name=config.name,
                group=config.track.wandb_group,
            )
        )
    return Trackers(trackers)
