"""Arrays with a place for each row of a pool: in memory while they fit, else in files.

The same code goes over both, a chunk at a time, so that the bytes that come out are the same. A
file has no name from the beginning: whatever ends the process, nothing of it is left.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

CHUNK_ROWS = 1 << 21


class Scratch:
    """Where arrays come from.

    Args:
        memory_bytes: What may be in memory of them at a time; further ones are files.
        folder: Where those files are; None: the system's temporary folder.
    """

    def __init__(self, memory_bytes: float = float("inf"), folder: Path | None = None) -> None:
        self._memory_left = memory_bytes
        self._folder = folder

    def zeros(self, count: int, dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of zeros, (count,).

        Raises:
            OSError: If it does not fit on the disk either.
        """
        bytes_ = count * np.dtype(dtype).itemsize
        if bytes_ == 0 or bytes_ <= self._memory_left:
            array: NDArray[Any] = np.zeros(count, dtype)
            self._memory_left -= bytes_
            weakref.finalize(array, self._give_back, bytes_)
            return array
        with tempfile.TemporaryFile(dir=self._folder) as file:
            # Without it a full disk would be a bus error in the middle of some arithmetic.
            os.posix_fallocate(file.fileno(), 0, bytes_)
            return np.memmap(file, dtype, "r+", shape=(count,))

    def full(self, count: int, value: float, dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of one value, (count,)."""
        array = self.zeros(count, dtype)
        array.fill(value)
        return array

    def _give_back(self, bytes_: int) -> None:
        self._memory_left += bytes_


def chunks(count: int, chunk_rows: int = CHUNK_ROWS) -> Iterator[slice]:
    """Cut ``range(count)`` into slices."""
    for begin in range(0, count, chunk_rows):
        yield slice(begin, min(begin + chunk_rows, count))
