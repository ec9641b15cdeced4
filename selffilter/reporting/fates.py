"""What a round decided of a row, as a small number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selffilter.selecting.on_disk import SHARES
from selffilter.tables import read_table, shard_file

NOT_BASE, DROPPED, CONFIDENT, DIVERSE = -1, 0, 1, 2
"""No part of the base (probe, outside the subset, failed, removed); not selected; selected for its
score; drawn."""
_CODE_OF = dict(zip(SHARES, (CONFIDENT, DIVERSE), strict=True))


def read_fates(folder: Path, shard: int) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Read the selected rows of a shard, ascending, and the fate of each.

    Args:
        folder: A round's selection.
        shard: The shard's number.
    """
    table = read_table(shard_file(folder, shard), ["row", "share"])
    share = table["share"].combine_chunks()
    codes = np.array([_CODE_OF[name] for name in share.dictionary.to_pylist()], np.int8)
    fate_k = codes[share.indices.to_numpy()] if table.num_rows else np.empty(0, np.int8)
    return table["row"].to_numpy(), fate_k
