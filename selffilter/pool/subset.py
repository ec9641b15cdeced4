"""Files with the uids of a subset.

============  ==================================================================================
``.npy``      DataComp's: a sorted array, dtype "u8,u8"; a uid that stands m times has weight m
``.parquet``  ``uid`` (32 hex digits, or 16 bytes), and ``weight`` (a whole number) if there is one
``.txt``      32 hex digits a line; a uid that stands m times has weight m
============  ==================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from selffilter.errors import UserError
from selffilter.npy_header import read_header
from selffilter.pool import uids
from selffilter.pool.multiset import Subset, ascending_order, is_ascending, subset_of
from selffilter.pool.uid_tables import uid_batches
from selffilter.store import write_atomically
from selffilter.threads import THREADS, several

SUBSET_DTYPE = np.dtype("<u8,<u8")
_PIECE = 1 << 20
"""Uids that are written or converted at a time."""
_TOP_BITS = 6
"""By their upper bits uids are dealt into parts, each of which is sorted by itself."""
_TEXT_PIECE = 32 << 20
_MOST_TIMES = 2**31 - 1


def write_subset(
    path: Path, uids_N2: NDArray[np.uint64], weights_N: NDArray[Any] | None = None
) -> None:
    """Write uids as DataComp's resharder and webdataset filters read them.

    Args:
        path: The ``.npy`` file.
        uids_N2: (N, 2) uint64, hi and lo; in any order.
        weights_N: A uid stands this many times in the file, (N,) of whole numbers; once each if
            None.
    """
    count = len(uids_N2) if weights_N is None else int(weights_N.sum())
    header = {"descr": SUBSET_DTYPE.descr, "fortran_order": False, "shape": (count,)}

    def write(file: IO[bytes]) -> None:
        np.lib.format.write_array_header_1_0(file, header)
        for part_n2, weights_n in _ascending_parts(uids_N2, weights_N):
            for piece in _repeated(part_n2, weights_n):
                file.write(piece.astype("<u8").tobytes())

    write_atomically(path, write)


def _ascending_parts(
    uids_N2: NDArray[np.uint64], weights_N: NDArray[Any] | None
) -> Iterator[tuple[NDArray[np.uint64], NDArray[Any] | None]]:
    """Yield uids in ascending order, in parts: sorting takes a fraction of the memory of them."""
    if is_ascending(uids_N2):
        yield uids_N2, weights_N
        return
    top_N = (uids_N2[:, 0] >> np.uint64(64 - _TOP_BITS)).astype(np.uint8)

    def ascending(top: int) -> tuple[NDArray[np.uint64], NDArray[Any] | None]:
        part = np.flatnonzero(top_N == top)
        part = part[ascending_order(uids_N2[part])]
        return uids_N2[part], None if weights_N is None else weights_N[part]

    parts = 1 << _TOP_BITS
    for first in range(0, parts, THREADS):  # no more of them in memory
        yield from several(ascending, range(first, min(first + THREADS, parts)))


def read_subset(path: Path) -> NDArray[np.uint64]:
    """Read a ``.npy`` subset file as (N, 2) uint64, repeats kept, memory-mapped. Never unpickles.

    Raises:
        UserError: If the file is not a one-dimensional array of two unsigned 64-bit fields.
    """
    try:
        with path.open("rb") as file:
            shape, _, dtype, offset = read_header(file)
        there = path.stat().st_size - offset
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a DataComp subset file: {error}") from error
    if len(shape) != 1 or dtype != SUBSET_DTYPE:
        raise UserError(
            f"{path} holds {dtype} of shape {shape}; a DataComp subset file is one "
            "row of pairs 'u8,u8'."
        )
    if shape[0] * dtype.itemsize > there:
        raise UserError(
            f"{path} is not a DataComp subset file: it breaks off, {shape[0]:,} uids are more than "
            f"{there:,} bytes."
        )
    if not shape[0]:
        return np.empty((0, 2), np.uint64)
    return np.asarray(np.memmap(path, "<u8", "r", offset, (shape[0], 2)))


def read_subset_file(path: Path) -> Subset:
    """Read a subset from any of the formats, by the file's extension.

    Raises:
        UserError: If the file is not there, or not in that format.
    """
    readers: dict[str, Callable[[Path], Subset]] = {
        ".npy": lambda path: subset_of(read_subset(path)),
        ".parquet": _read_parquet,
        ".txt": _read_text,
    }
    if not path.is_file():
        raise UserError(f"there is no subset file {path}.")
    if path.suffix not in readers:
        raise _unknown(path)
    return readers[path.suffix](path)


def write_subset_file(path: Path, subset: Subset) -> None:
    """Write a subset in any of the formats, by the file's extension; uids ascend.

    Raises:
        UserError: For another extension.
    """
    check_subset_name(path)
    if path.suffix == ".npy":
        write_subset(path, subset.uids_N2, subset.weights_N)
    elif path.suffix == ".parquet":
        write_atomically(path, lambda file: _write_parquet(file, subset))
    else:
        write_atomically(path, lambda file: _write_text(file, subset))


def check_subset_name(path: Path) -> None:
    """Check that a file's extension names a format.

    Raises:
        UserError: If not.
    """
    if path.suffix not in (".npy", ".parquet", ".txt"):
        raise _unknown(path)


def _unknown(path: Path) -> UserError:
    return UserError(f"{path}: a subset file ends in .npy, .parquet or .txt.")


def _repeated(
    uids_N2: NDArray[np.uint64], weights_N: NDArray[Any] | None
) -> Iterator[NDArray[np.uint64]]:
    """Yield the uids in pieces, each as often as its weight."""
    for begin in range(0, len(uids_N2), _PIECE):
        piece = np.ascontiguousarray(uids_N2[begin : begin + _PIECE])
        if weights_N is None:
            yield piece
            continue
        weights = weights_N[begin : begin + _PIECE]
        if (weights == 1).all():
            yield piece
            continue
        # A heavy piece is cut once more, so that no weight decides how much memory is used.
        ends = np.cumsum(weights)
        for first in range(0, int(ends[-1]), _PIECE):
            places = np.arange(first, min(first + _PIECE, int(ends[-1])))
            yield piece[np.searchsorted(ends, places, side="right")]


def _read_parquet(path: Path) -> Subset:
    found: list[NDArray[np.uint64]] = [np.empty((0, 2), np.uint64)]
    weights: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    weighted = False
    try:
        for uids_n2, batch in uid_batches(path, if_there=["weight"]):
            found.append(uids_n2)
            weighted = "weight" in batch.schema.names
            if weighted:
                weights.append(_weights_of_column(path, batch["weight"]))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{path} is not a Parquet file of uids: {error}.") from error
    return subset_of(np.concatenate(found), np.concatenate(weights) if weighted else None)


def _weights_of_column(path: Path, column: pa.Array) -> NDArray[np.int64]:
    if not pa.types.is_integer(column.type) or column.null_count:
        raise UserError(f"{path}: weight is {column.type}; it must be a whole number in each row.")
    weights = column.cast(pa.int64()).to_numpy(zero_copy_only=False)
    wrong = weights[(weights < 0) | (weights > _MOST_TIMES)]
    if len(wrong):
        raise UserError(f"{path}: a weight is {wrong[0]}; it must be in [0, {_MOST_TIMES}].")
    return weights


def _write_parquet(file: IO[bytes], subset: Subset) -> None:
    schema = pa.schema([("uid", pa.string()), ("weight", pa.int64())])
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for begin in range(0, len(subset), _PIECE):
            part = slice(begin, begin + _PIECE)
            digits = _to_hex(subset.uids_N2[part])
            ends = np.arange(0, len(digits) + 1, 32, dtype=np.int32)
            column = pa.Array.from_buffers(
                pa.string(), len(ends) - 1, [None, pa.py_buffer(ends), pa.py_buffer(digits)]
            )
            weights = pa.array(subset.weights_N[part])
            writer.write_table(pa.Table.from_arrays([column, weights], schema=schema))


def _read_text(path: Path) -> Subset:
    found: list[NDArray[np.uint64]] = [np.empty((0, 2), np.uint64)]
    line = 1
    with path.open("rb") as file:
        while piece := file.read(_TEXT_PIECE):
            if piece[-1:] != b"\n":
                piece += file.readline(_TEXT_PIECE)  # to the end of the line that was cut
            found.append(_uids_of_lines(path, piece, line))
            line += piece.count(b"\n")
    return subset_of(np.concatenate(found))


def _uids_of_lines(path: Path, text: bytes, first_line: int) -> NDArray[np.uint64]:
    text = text.translate(None, b" \t\r")
    if text[-1:] != b"\n":
        text += b"\n"
    letters = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(letters == ord("\n"))
    lengths = np.diff(ends, prepend=-1) - 1
    wrong = (lengths != 0) & (lengths != 32)
    other = np.flatnonzero(~uids.IS_HEX[letters] & (letters != ord("\n")))
    wrong[np.searchsorted(ends, other)] = True
    if wrong.any():
        line = int(np.flatnonzero(wrong)[0])
        said = text[ends[line] - lengths[line] : ends[line]][:40].decode("utf-8", "replace")
        raise UserError(f"{path}, line {first_line + line}: {said!r} is not 32 hex digits.")
    return uids.from_digits(text.translate(None, b"\n"))


def _write_text(file: IO[bytes], subset: Subset) -> None:
    for piece in _repeated(subset.uids_N2, subset.weights_N):
        lines = np.full((len(piece), 33), ord("\n"), np.uint8)
        lines[:, :32] = np.frombuffer(_to_hex(piece), np.uint8).reshape(-1, 32)
        file.write(lines.tobytes())


def _to_hex(uids_N2: NDArray[np.uint64]) -> bytes:
    return np.ascontiguousarray(uids_N2).astype(">u8").tobytes().hex().encode("ascii")
