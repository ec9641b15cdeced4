"""Rows that were taken out before selecting, as the select stage writes them down."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from selffilter.asking.standing import Removed
from selffilter.tables import REMOVED

Rows = NDArray[np.int64]


def removed_among(folder: Path, rows_K: Rows) -> dict[int, Removed]:
    """Find which of some rows were removed, and why; the uids of what stays are left open."""
    path, asked = folder / REMOVED, pa.array(rows_K)
    if not path.exists():
        return {}
    found: dict[int, Removed] = {}
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(1 << 20, columns=["row", "reason", "of_row", "of"]):
            for row in batch.filter(pc.is_in(batch["row"], asked)).to_pylist():
                of_row = row["of_row"] if row["of_row"] >= 0 else None
                found[row["row"]] = Removed(row["reason"], of_row, of=row["of"])
    return found
