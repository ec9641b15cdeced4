"""The truth about planted noise, as tables that lie beside the pool, never in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from selffilter.pool.noise.planted import Kind, Planted
from selffilter.tables import write_table


def write_truth(
    folder: Path, uid_texts: Sequence[str], captions: Sequence[str], planted: Planted
) -> None:
    """Write ``truth.parquet`` and ``truth_scores.parquet``, a row a sample in the pool's order.

    Args:
        folder: Where.
        uid_texts: N times 32 hex digits.
        captions: As they were before.
        planted: What was done.
    """
    ids = pa.array(uid_texts, pa.string())
    clean_N = planted.clean_N
    sources = [uid_texts[s] if s >= 0 else None for s in planted.source_N.tolist()]
    before = [None if clean else text for clean, text in zip(clean_N, captions, strict=True)]
    truth = {
        "uid": ids,
        "clean": pa.array(clean_N),
        "kind": pa.array([Kind(kind).name for kind in planted.kind_N]),
        "source_uid": pa.array(sources, pa.string()),
        "original_caption": pa.array(before, pa.string()),
    }
    write_table(folder / "truth.parquet", pa.table(truth))
    oracle = {"uid": ids, "score": pa.array(clean_N.astype(np.float32))}
    write_table(folder / "truth_scores.parquet", pa.table(oracle))
