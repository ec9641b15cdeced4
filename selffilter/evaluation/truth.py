"""What a selection is worth where noise was planted and the truth is known.

The truth lies beside the pool and is read here alone: never by scoring or selecting.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from selffilter.errors import UserError
from selffilter.pool import uids
from selffilter.pool.index import Pool
from selffilter.tables import read_table


class Truth:
    """Which rows of a pool were left as they are (clean) and which got a wrong caption.

    Args:
        path: A Parquet of ``uid`` (32 hex digits) and ``clean`` (bool).
        pool: The pool.

    Raises:
        UserError: If the file is not such a table, or names no row of the pool.
    """

    def __init__(self, path: Path, pool: Pool) -> None:
        try:
            table = read_table(path, ["uid", "clean"])
            known = uids.UidTable(uids.from_hex(table["uid"].to_pylist()))
            clean = table["clean"].to_numpy().astype(np.int8)
        except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
            raise UserError(
                f"evaluate.truth={path} is no Parquet of uid and clean: {error}"
            ) from error
        unknown = np.int8(-1)
        place_N = known.places(pool.uids_of(np.arange(pool.rows)))
        self._clean_N = np.append(clean, unknown)[place_N]
        if pool.rows and (place_N < 0).all():
            raise UserError(
                f"evaluate.truth={path}: none of its {len(clean):,} uids is in the pool, which has "
                f"{pool.rows:,} rows. Is it of this pool?"
            )

    def is_clean(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Mark the rows that are known to be clean, (N,) bool."""
        clean: NDArray[np.bool_] = self._clean_N[rows] == 1
        return clean

    def labels(self, rows: NDArray[np.int64]) -> NDArray[np.int8]:
        """Return 1 for clean rows, 0 for planted ones, -1 where the truth is not known; (N,)."""
        labels: NDArray[np.int8] = self._clean_N[rows]
        return labels

    def precision(self, rows: NDArray[np.int64]) -> float:
        """Return the share of clean rows among those whose truth is known."""
        known = self._clean_N[rows]
        known = known[known >= 0]
        return float(known.mean()) if len(known) else float("nan")

    def recall(self, rows: NDArray[np.int64], among: NDArray[np.int64]) -> float:
        """Return the share of the clean ones of `among` that is in `rows`, a part of them."""
        clean = int(self.is_clean(among).sum())
        return int(self.is_clean(rows).sum()) / clean if clean else float("nan")

    def auc(self, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> float:
        """Return the probability that a clean row scores above a planted one; ties count half."""
        clean = self._clean_N[rows]
        use = (clean >= 0) & np.isfinite(scores)
        return area_under_curve(scores[use], clean[use] == 1)


def area_under_curve(scores: NDArray[np.float32], positive: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve (Mann-Whitney); NaN if one side is empty."""
    n_pos, n_neg = int(positive.sum()), int((~positive).sum())
    if not n_pos or not n_neg:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    return float((mean_rank[inverse][positive].sum() - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg))
