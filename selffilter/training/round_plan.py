"""What a round of a run trains on, in which order."""

from __future__ import annotations

from selffilter.config import Config
from selffilter.pool.base import Base
from selffilter.store import RunStore
from selffilter.training.batch_plan import BatchPlan, WeightedRows, WholeBase
from selffilter.training.selected import Selected


def round_plan(config: Config, store: RunStore, base: Base, round_: int) -> BatchPlan:
    """Return the batches of a round: over the base, or what the round before selected.

    Raises:
        UserError: If that does not fill a batch.
    """
    rows: WeightedRows = WholeBase(base)
    if round_:
        rows = Selected(store.stage(round_ - 1, "select"))
    return BatchPlan(rows, config.train.global_batch_size, config.seed, round_)
