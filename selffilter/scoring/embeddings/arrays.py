"""Arrays in .npy and .npz files: described without reading them, mapped into memory where possible.

Nothing is unpickled, and no size in a file is believed before it is held against another.
"""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from selffilter.errors import UserError
from selffilter.npy_header import read_header

_LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Of a zip member: signature, lengths of its name and of its extra field."""

MAX_WIDTH = 65_536

_BELIEVED_BYTES = 64 << 20
_MOST_PACKED = 100
"""Embeddings are noise to a compressor; an array that is packed more than this, and is larger than
`_BELIEVED_BYTES` unpacked, is there to fill the memory."""
_BROKEN_ZIP = (
    OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
    struct.error,
)  # fmt: skip


@dataclass(frozen=True)
class StoredArray:
    """A matrix of floats in a file.

    Attributes:
        path: The file.
        member: Its name in an .npz; "" for an .npy.
        shape: (rows, width).
        dtype: float16, float32 or float64.
        offset: Where its numbers begin in the file; None if they are compressed.
        fortran_order: Whether they stand column by column.
    """

    path: Path
    member: str
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    offset: int | None
    fortran_order: bool

    def map(self) -> NDArray[np.floating]:
        """Return the numbers as they lie in the file; only for arrays that have an offset."""
        if not self.shape[0]:
            return np.empty(self.shape, self.dtype)
        assert self.offset is not None
        order: Literal["F", "C"] = "F" if self.fortran_order else "C"
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape, order)

    def load(self) -> NDArray[np.floating]:
        """Decompress the numbers into memory.

        Raises:
            UserError: If the file breaks off.
        """
        rows, width = self.shape
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:
                file.seek(read_header(file)[-1])
                raw = file.read(rows * width * self.dtype.itemsize)
            flat = np.frombuffer(raw, self.dtype)
            return flat.reshape(self.shape, order="F" if self.fortran_order else "C")
        except _BROKEN_ZIP as error:
            raise UserError(f"{self.path}: {self.member} cannot be read: {error}.") from error


def describe_npy(path: Path) -> StoredArray:
    """Return what matrix an .npy file holds.

    Raises:
        UserError: If there is no such file, or it holds anything but a matrix of floats.
    """
    try:
        with path.open("rb") as file:
            shape, fortran_order, dtype, offset = read_header(file)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing.") from error
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{path} is no .npy of numbers: {error}.") from error
    return _checked(path, "", shape, dtype, offset, fortran_order)


def describe_npz(path: Path, name: str) -> StoredArray:
    """Return what matrix stands under a name in an .npz file.

    Raises:
        UserError: If there is no such file or name, or it holds anything but a matrix of floats.
    """
    member = f"{name}.npy"
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            if member not in members:
                held = ", ".join(one.removesuffix(".npy") for one in members) or "nothing"
                raise UserError(f"{path} has no {name}: it holds {held}.")
            info = archive.getinfo(member)
            if info.file_size > max(_BELIEVED_BYTES, _MOST_PACKED * info.compress_size):
                raise ValueError(f"{info.compress_size} bytes that unpack to {info.file_size}")
            with archive.open(info) as file:
                shape, fortran_order, dtype, header = read_header(file)
        stored = info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1
        offset = _begins_at(path, info) + header if stored else None
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing.") from error
    except _BROKEN_ZIP as error:
        raise UserError(f"{path}: {name} is no .npz of numbers: {error}.") from error
    return _checked(path, member, shape, dtype, offset, fortran_order, info.file_size - header)


def _begins_at(path: Path, info: zipfile.ZipInfo) -> int:
    """Return where a member's bytes begin: its own header may be longer than the directory says."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        signature, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    if signature != b"PK\x03\x04":
        raise ValueError("its directory points to no member")
    return int(info.header_offset + _LOCAL_HEADER.size + name + extra)


def _checked(
    path: Path,
    member: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    offset: int | None,
    fortran_order: bool,
    size: int | None = None,
) -> StoredArray:
    where = f"{path}: {member}" if member else str(path)
    if dtype.kind != "f" or dtype.itemsize not in (2, 4, 8):
        raise UserError(f"{where} holds {dtype}, not float16, float32 or float64.")
    if len(shape) != 2:
        raise UserError(f"{where} has the shape {shape}, not (rows, width).")
    rows, width = shape
    if not 1 <= width <= MAX_WIDTH:
        raise UserError(f"{where} has embeddings of width {width}, not 1 to {MAX_WIDTH}.")
    if size is None:
        size = path.stat().st_size - (offset or 0)
    if rows * width * dtype.itemsize > size:
        raise UserError(f"{where} breaks off: it says {rows} rows of {width} {dtype} numbers.")
    return StoredArray(path, member, (rows, width), dtype, offset, fortran_order)
