"""What a round decided of a row, as a small number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selffilter.selecting.on_disk import read_shard

NOT_BASE, DROPPED, CONFIDENT, DIVERSE = -1, 0, 1, 2
"""No part of the base (probe, outside the subset, failed, removed); not selected; selected for its
score; drawn."""


def read_fates(folder: Path, shard: int) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Read the selected rows of a shard, ascending, and the fate of each.

    Args:
        folder: A round's selection.
        shard: The shard's number.
    """
    table, confident_k = read_shard(folder, shard, ["row"])
    fate_k = np.where(confident_k, CONFIDENT, DIVERSE).astype(np.int8)
    return table["row"].to_numpy(), fate_k
