"""DataComp's subset file: a sorted structured array of uids, dtype "u8,u8"."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selffilter.errors import UserError
from selffilter.store import write_atomically

SUBSET_DTYPE = np.dtype("<u8,<u8")


def write_subset(
    path: Path, uids_N2: NDArray[np.uint64], weights_N: NDArray[np.int32] | None = None
) -> None:
    """Write uids as DataComp's resharder and webdataset filters read them.

    Args:
        path: The ``.npy`` file.
        uids_N2: (N, 2) uint64, hi and lo.
        weights_N: A uid stands this many times in the file; once each if None.
    """
    if weights_N is not None:
        uids_N2 = np.repeat(uids_N2, weights_N, axis=0)
    ordered = uids_N2[np.lexsort((uids_N2[:, 1], uids_N2[:, 0]))]
    subset = np.empty(len(ordered), dtype=SUBSET_DTYPE)
    subset["f0"], subset["f1"] = ordered[:, 0], ordered[:, 1]
    write_atomically(path, lambda file: np.save(file, subset, allow_pickle=False))


def read_subset(path: Path) -> NDArray[np.uint64]:
    """Read a subset file as (N, 2) uint64, repeats kept. Never unpickles.

    Raises:
        UserError: If the file is not a one-dimensional array of two unsigned 64-bit fields.
    """
    try:
        subset = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{path} is not a DataComp subset file: {error}") from error
    if subset.ndim != 1 or subset.dtype != SUBSET_DTYPE:
        raise UserError(
            f"{path} holds {subset.dtype} of shape {subset.shape}; a DataComp subset file is one "
            "row of pairs 'u8,u8'."
        )
    return np.stack([subset["f0"], subset["f1"]], axis=1)
