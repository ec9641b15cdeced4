"""Embeddings of a pool as they lie on disk, whoever wrote them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from selffilter.errors import UserError
from selffilter.pool import uids
from selffilter.scoring.embeddings.arrays import StoredArray

Side = Literal["image", "text"]

_MAPPED_AT_ONCE = 512  # the kernel allows a process 65,530 maps
_LOADED_AT_ONCE = 2  # one part's images and texts


@dataclass(frozen=True)
class Part:
    """Some consecutive rows: the files that one writer left for them.

    Attributes:
        table: Parquet, row-aligned with the arrays.
        arrays: (rows, D) each.
        rows: Rows of the table and of the arrays.
        uids: Reads the rows' ids, (rows, 2) uint64.
    """

    table: Path
    arrays: dict[Side, StoredArray]
    rows: int
    uids: Callable[[], NDArray[np.uint64]]


class Embeddings:
    """N rows of image embeddings, text embeddings or both, not in memory.

    A row's number is its place, 0 to N − 1, parts in order.

    Args:
        folder: Where they lie, for errors.
        parts: In order.
        description: What is known of where they come from; plain values.

    Attributes:
        rows: N.
        width: D.
        sides: Which embeddings there are.
        description: See above.

    Raises:
        UserError: If there is no row, or the parts do not fit together.
    """

    def __init__(self, folder: Path, parts: Sequence[Part], description: dict[str, Any]) -> None:
        if not parts or not any(part.rows for part in parts):
            raise UserError(f"{folder} has no embeddings: not a single row.")
        self.folder, self.description = folder, description
        self.parts = tuple(parts)
        self.sides: tuple[Side, ...] = tuple(parts[0].arrays)
        self.width = next(iter(parts[0].arrays.values())).shape[1]
        for part in parts:
            self._check(part)
        self._dtype = {
            side: np.result_type(*{part.arrays[side].dtype for part in parts})
            for side in self.sides
        }
        self.first_row = np.cumsum([0, *(part.rows for part in parts)])
        self.rows = int(self.first_row[-1])
        self._mapped = lru_cache(_MAPPED_AT_ONCE)(StoredArray.map)
        self._loaded = lru_cache(_LOADED_AT_ONCE)(StoredArray.load)

    def uids(self) -> NDArray[np.uint64]:
        """Return every row's id, (N, 2) uint64."""
        return np.concatenate([part.uids() for part in self.parts])

    def column(self, name: str) -> NDArray[np.float32]:
        """Read a column of numbers that came with the embeddings, (N,) float32; null is NaN.

        Raises:
            UserError: If there is no such column, or it is not of numbers.
        """
        return np.concatenate([_numbers(part.table, name) for part in self.parts])

    def pool_rows(self) -> NDArray[np.int64]:
        """Return every row's number in the pool index, (N,) int64, where the writer knew it.

        Raises:
            UserError: If it did not.
        """
        parts = []
        for part in self.parts:
            if "row" not in pq.read_schema(part.table).names:
                raise UserError(f"{part.table} does not say which rows of a pool its rows are.")
            parts.append(pq.read_table(part.table, columns=["row"], partitioning=None)["row"])
        return np.concatenate([part.to_numpy() for part in parts])

    def read(self, side: Side, start: int, stop: int, device: torch.device | str = "cpu") -> Tensor:
        """Return rows start to stop, unit-norm, float32, (n, D); NaN where a row is unusable."""
        return unit_norm(self.read_raw(side, start, stop).to(device))

    def read_raw(self, side: Side, start: int, stop: int) -> Tensor:
        """Return rows start to stop as they are stored, (n, D)."""
        stop = min(stop, self.rows)
        found = self._empty(side, stop - start)
        done, place = start, int(np.searchsorted(self.first_row, start, side="right")) - 1
        while done < stop:
            begin, end = self.first_row[place : place + 2].tolist()
            upto = min(end, stop)
            array = self._array(side, place)
            found[done - start : upto - start] = array[done - begin : upto - begin]
            done, place = upto, place + 1
        return torch.from_numpy(found)

    def gather(
        self, side: Side, rows_n: NDArray[np.int64], device: torch.device | str = "cpu"
    ) -> Tensor:
        """Return any rows in any order, unit-norm, float32, (n, D); NaN where one is unusable."""
        return unit_norm(self.gather_raw(side, rows_n).to(device))

    def gather_raw(self, side: Side, rows_n: NDArray[np.int64]) -> Tensor:
        """Return any rows in any order as they are stored, (n, D).

        The files are read from front to back whatever the order of the rows: of many rows that lie
        close together a disk reads the pages in passing.
        """
        ascending = np.argsort(rows_n, kind="stable")
        ordered = rows_n[ascending]
        bounds = np.searchsorted(ordered, self.first_row)
        found = self._empty(side, len(rows_n))
        for place in np.flatnonzero(np.diff(bounds)).tolist():
            mine = slice(bounds[place], bounds[place + 1])
            rows_of_part = ordered[mine] - self.first_row[place]
            found[ascending[mine]] = self._array(side, place)[rows_of_part]
        return torch.from_numpy(found)

    def _empty(self, side: Side, rows: int) -> NDArray[np.floating]:
        if side not in self.sides:
            raise UserError(f"{self.folder} has no {side} embeddings, which this needs.")
        return np.empty((rows, self.width), self._dtype[side].newbyteorder("="))

    def _array(self, side: Side, place: int) -> NDArray[np.floating]:
        array = self.parts[place].arrays[side]
        return self._mapped(array) if array.offset is not None else self._loaded(array)

    def _check(self, part: Part) -> None:
        if tuple(part.arrays) != self.sides:
            raise UserError(
                f"{self.folder}: {part.table.name} comes with {' and '.join(part.arrays)} "
                f"embeddings, {self.parts[0].table.name} with {' and '.join(self.sides)}."
            )
        for array in part.arrays.values():
            where = f"{array.path}{f' ({array.member})' if array.member else ''}"
            if array.shape[0] != part.rows:
                raise UserError(
                    f"{where} has {array.shape[0]} rows, but {part.table} has {part.rows}: "
                    "they must be aligned row by row."
                )
            if array.shape[1] != self.width:
                raise UserError(
                    f"{where} has embeddings of width {array.shape[1]}, others here of width "
                    f"{self.width}: they come from different models."
                )


def unit_norm(features_ND: Tensor) -> Tensor:
    """Return features as unit-norm float32; NaN all along where a row is zero or not finite."""
    features_ND = features_ND.float()
    norm_N1 = torch.linalg.vector_norm(features_ND, dim=-1, keepdim=True)
    usable_N1 = norm_N1.isfinite() & (norm_N1 > 0)
    return torch.where(usable_N1, features_ND / norm_N1, torch.nan)


def table_rows(path: Path) -> int:
    """Return how many rows a Parquet file has.

    Raises:
        UserError: If it is none.
    """
    try:
        return int(pq.read_metadata(path).num_rows)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing.") from error
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} is no Parquet: {error}.") from error


def hex_uids(path: Path) -> NDArray[np.uint64]:
    """Read the column ``uid`` of 32 hex digits, (N, 2) uint64, some rows in memory as text.

    Raises:
        UserError: If it is not there, or a row has none.
    """
    try:
        with pq.ParquetFile(path) as file:
            parts = [np.empty((0, 2), np.uint64)]
            for batch in file.iter_batches(columns=["uid"]):
                parts.append(uids.from_hex(batch.column("uid").to_pylist()))
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        raise UserError(f"{path} has no column uid of 32 hex digits a row: {error}.") from error
    return np.concatenate(parts)


def _numbers(path: Path, name: str) -> NDArray[np.float32]:
    try:
        column = pq.read_table(path, columns=[name], partitioning=None)[name]
        return column.cast(pa.float32()).to_numpy()
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        known = ", ".join(pq.read_schema(path).names) if path.exists() else "nothing"
        raise UserError(f"{path} has no column {name!r} of numbers; it has {known}.") from error
