"""Sample ids: 128 bits, as hex text, as 16 bytes, and as pairs of uint64.

In memory a batch of uids is (N, 2) uint64, columns hi and lo, where
``hi = int(hex[:16], 16)`` and ``lo = int(hex[16:], 16)`` as in DataComp's subset files.
"""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

UID_TYPE = pa.binary(16)
_HEX = re.compile(r"[0-9a-fA-F]{32}")


def uid_bytes(stated: object, source: str, shard: str, key: str) -> bytes:
    """Return a sample's uid: the stated one if it has 32 hex digits, else a hash of its place.

    Args:
        stated: What stands under ``uid`` in the sample's json, if anything.
        source: Name of the source.
        shard: Path of the shard relative to the source.
        key: The sample's key in the tar.
    """
    if isinstance(stated, str) and _HEX.fullmatch(stated):
        return bytes.fromhex(stated)
    place = "\x1f".join((source, shard, key)).encode("utf-8", "surrogateescape")
    return hashlib.sha256(place).digest()[:16]


def from_arrow(column: pa.ChunkedArray | pa.Array) -> NDArray[np.uint64]:
    """Return an Arrow column of 16-byte uids as (N, 2) uint64."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    raw = np.frombuffer(column.buffers()[1] or b"", dtype=">u8")
    first = 2 * column.offset
    return raw[first : first + 2 * len(column)].astype(np.uint64).reshape(-1, 2)


def to_arrow(uids_N2: NDArray[np.uint64]) -> pa.Array:
    """Return (N, 2) uint64 as an Arrow array of 16 bytes each."""
    raw = np.ascontiguousarray(uids_N2).astype(">u8").tobytes()
    return pa.Array.from_buffers(UID_TYPE, len(uids_N2), [None, pa.py_buffer(raw)])


def to_hex(uids_N2: NDArray[np.uint64]) -> list[str]:
    """Return the uids as 32 lowercase hex digits each."""
    raw = np.ascontiguousarray(uids_N2).astype(">u8").tobytes().hex()
    return [raw[i : i + 32] for i in range(0, len(raw), 32)]


def from_hex(texts: list[str]) -> NDArray[np.uint64]:
    """Return 32-digit hex texts as (N, 2) uint64; about 20 times faster than int() a row.

    Raises:
        ValueError: If a text has not 32 hex digits.
    """
    raw = np.frombuffer(bytes.fromhex("".join(texts)), dtype=">u8")
    # Joined, a text that is too short would be made up for by one that is too long.
    if len(raw) != 2 * len(texts) or any(len(text) != 32 for text in texts):
        raise ValueError("a uid has 32 hex digits")
    return raw.astype(np.uint64).reshape(-1, 2)
