"""A run as it lies on disk, finished or not, for those who look at it and change nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selffilter.config import Config, read_run_config
from selffilter.errors import UserError
from selffilter.planning import ranks_by_merit, stages_of
from selffilter.pool.index import Pool
from selffilter.store import RunStore, read_object


@dataclass(frozen=True)
class RunOnDisk:
    """A run directory.

    Attributes:
        store: Its files.
        config: What it was begun with.
        pinned: ``index_dir`` and ``version`` of the pool's index.
    """

    store: RunStore
    config: Config
    pinned: dict[str, str]

    @classmethod
    def open(cls, run_dir: Path) -> RunOnDisk:
        """Open a run directory.

        Raises:
            UserError: If it is none, or nothing of the run has begun.
        """
        store = open_store(run_dir)
        record = store.root / "environment.json"
        if not record.exists():
            raise UserError(f"{run_dir}: the run has not begun; it has no environment.json.")
        return cls(store, read_run_config(store.config_path), read_object(record)["pool"])

    @cached_property
    def pool(self) -> Pool:
        """The version of the pool's index that the run is pinned to.

        Raises:
            UserError: If it is gone.
        """
        return Pool(
            Path(self.pinned["index_dir"]), self.pinned["version"], self.config.pool.caption_key
        )

    @property
    def rows_version(self) -> str:
        """What two runs over the same rows have alike, wherever their shards lie now."""
        try:
            return self.pool.rows_version
        except UserError:  # the index is gone: its name is known
            return self.pinned["version"]

    def done(self, stage: str) -> list[int]:
        """Return the rounds in which a stage is finished, ascending."""
        return rounds_done(self.store, stage)

    def merit(self, round_: int) -> NDArray[np.float32] | None:
        """Return what a round has ranked all rows by, (N,) memory-mapped; None: by their scores."""
        path = self.store.stage(round_, "select") / "merit.npy"
        if not ranks_by_merit(self.config) or not path.exists():
            return None
        merit_N: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
        return merit_N

    def next_stage(self) -> tuple[int, str] | None:
        """Return round and name of the first stage that is not finished; None if all are."""
        for round_ in range(self.config.rounds.count):
            for stage in stages_of(self.config, round_):
                if not self.store.is_done(round_, stage):
                    return round_, stage
        return None


def open_store(run_dir: Path) -> RunStore:
    """Return the files of a run directory.

    Raises:
        UserError: If it is none.
    """
    store = RunStore(run_dir)
    if not store.config_path.exists():
        raise UserError(f"{run_dir} is no run directory: it has no config.yaml.")
    return store


def rounds_done(store: RunStore, stage: str) -> list[int]:
    """Return the rounds in which a stage is finished, ascending."""
    return [round_ for round_ in store.rounds() if store.is_done(round_, stage)]


def number(value: Any) -> float | None:
    """Return a finite number as it is; NaN, and what is none, as None."""
    return float(value) if value is not None and math.isfinite(value) else None
