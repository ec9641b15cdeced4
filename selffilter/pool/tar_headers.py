"""The headers of a tar, from its beginning to its end and never back.

Several times faster than `tarfile` (docs/pool.md has numbers), which a test holds it against, and
stricter: where `tarfile` takes any bad header after the first member for the end, this says what
is wrong. Formats: V7, ustar, GNU (long names, large numbers), pax (path, size).
POSIX.1-2017, "pax Interchange Format" and "ustar Interchange Format"; GNU tar manual, "Basic Tar
Format".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple
from zlib import adler32

BLOCK = 512
_ZEROS = bytes(BLOCK)
_MAX_EXTENDED = 1 << 20
"""Bytes of a long name or of pax records; a tar that states more is refused."""
_EXTENDED = b"LKxXg"
_REGULAR = b"0\x007"
_WITHOUT_DATA = b"123456"
"""Links, devices, folders and pipes: whatever size they state, no data follows (as `tarfile`)."""
_PAX_RECORD = re.compile(rb"(\d{1,20}) ([^=]+)=")
_ADLER = 65521


class BrokenTarError(Exception):
    """What is wrong with a tar; the members before the break are good."""


class Member(NamedTuple):
    """A regular file in a tar, all of which is there.

    Attributes:
        name: As it stands there; bytes that are not UTF-8 as surrogates. Never a path to write to.
        offset: Of its first byte in the tar.
        size: In bytes.
        data: Its bytes, if they were wanted.
    """

    name: str
    offset: int
    size: int
    data: bytes | None


def iterate_members(
    raw: BinaryIO,
    size: int | None,
    is_wanted: Callable[[str, int], bool] = lambda name, size: False,
) -> Iterator[Member]:
    """Walk the regular members of a tar; links, folders, devices and sparse files are passed over.

    Args:
        raw: The tar, open at its beginning; `seek` is only used to skip forward.
        size: Size of the tar in bytes; None if nobody knows.
        is_wanted: Name and size of a member → whether its bytes are to be read in passing.

    Raises:
        BrokenTarError: After the members before the break.
        OSError: If the tar cannot be read.
    """
    at = 0
    long_name: str | None = None
    pax: dict[bytes, bytes] = {}
    pax_of_all: dict[bytes, bytes] = {}
    while True:
        header = raw.read(BLOCK)
        if len(header) < BLOCK:
            empty = at == 0 and not header
            raise BrokenTarError(
                "empty file" if empty else "cut off: the end-of-archive marker is missing"
            )
        if header == _ZEROS:
            return
        if not _checksum_holds(header):
            raise BrokenTarError(f"no member and no end at byte {at}")
        kind = header[156:157]
        length = _number(header[124:136])
        at += BLOCK
        if kind in _EXTENDED:
            extended = _read_extended(raw, length)
            if kind == b"L":
                long_name = _text(extended.partition(b"\0")[0])
            elif kind == b"g":
                pax_of_all = pax_of_all | _pax_records(extended)
            elif kind != b"K":
                pax = _pax_records(extended)
            at += _padded(length)
            _skip(raw, at, size)
            continue
        name = _name(header) if long_name is None else long_name
        is_sparse = kind == b"S"
        if pax or pax_of_all:
            records = pax_of_all | pax
            length = _decimal(records[b"size"]) if b"size" in records else length
            name = _text(records[b"path"].rstrip(b"/")) if b"path" in records else name
            is_sparse = is_sparse or any(key.startswith(b"GNU.sparse.") for key in records)
        if length < 0:
            raise BrokenTarError(f"a member of {length} bytes at byte {at - BLOCK}")
        if kind == b"S":
            at += _pass_sparse_map(raw, header)
        offset = at
        # The first V7 tars knew no folders but these.
        has_data = kind not in _WITHOUT_DATA and not (kind == b"\0" and name.endswith("/"))
        if has_data:
            at += _padded(length)
        if has_data and kind in _REGULAR and not is_sparse:
            data = raw.read(length) if is_wanted(name, length) else None
            if not _is_there(raw, offset + length, size):
                raise BrokenTarError(f"cut off inside {name!r}")
            _skip(raw, at, size)
            yield Member(name, offset, length, data)
        else:
            _skip(raw, at, size)
        long_name, pax = None, {}


def _is_there(raw: BinaryIO, end: int, size: int | None) -> bool:
    if size is not None:
        return end <= size
    return raw.tell() == end or raw.seek(end) == end


def _skip(raw: BinaryIO, to: int, size: int | None) -> None:
    # Not behind the end: no store has to know what that means.
    raw.seek(to if size is None else min(to, size))


def _checksum_holds(header: bytes) -> bool:
    """Hold a header against its checksum: the sum of its bytes, the checksum's own as blanks."""
    field = header[148:156]
    try:
        stated = int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        return False
    rest = 8 * 32 - sum(field)
    # Adler-32's lower half is 1 + the sum, modulo 65521; and 20 times faster than sum().
    if ((adler32(header) & 0xFFFF) - 1 + rest - stated) % _ADLER == 0:
        return True
    total = sum(header) + rest
    return stated in (total, total - 256 * sum(byte > 127 for byte in header))  # some sum signed


def _number(field: bytes) -> int:
    """Return a number: octal digits, or GNU's base 256 for what these cannot hold."""
    if field[0] & 0x80:
        value = int.from_bytes(field[1:], "big")
        return value if field[0] == 0x80 else value - (1 << 8 * (len(field) - 1))
    try:
        return int(field.partition(b"\0")[0].strip() or b"0", 8)
    except ValueError:
        raise BrokenTarError(f"{field!r} is no size of a member") from None


def _decimal(value: bytes) -> int:
    try:
        return int(value)
    except ValueError:
        raise BrokenTarError(f"{value[:20]!r} is no size of a member") from None


def _name(header: bytes) -> str:
    name = header[:100].partition(b"\0")[0]
    if header[345] and header[156] != ord("S"):  # a sparse file's map stands there
        name = header[345:500].partition(b"\0")[0] + b"/" + name
    return _text(name)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _padded(length: int) -> int:
    return (length + BLOCK - 1) // BLOCK * BLOCK


def _pass_sparse_map(raw: BinaryIO, header: bytes) -> int:
    """Pass over the blocks with more of an old GNU sparse file's map; return their bytes."""
    passed, more = 0, header[482]
    while more:
        block = raw.read(BLOCK)
        if len(block) < BLOCK:
            break
        passed, more = passed + BLOCK, block[504]
    return passed


def _read_extended(raw: BinaryIO, length: int) -> bytes:
    if not 0 <= length <= _MAX_EXTENDED:
        raise BrokenTarError(f"an extended header of {length} bytes")
    data = raw.read(length)
    if len(data) < length:
        raise BrokenTarError("cut off inside an extended header")
    return data


def _pax_records(data: bytes) -> dict[bytes, bytes]:
    """Parse records: ``LENGTH KEY=VALUE`` and a line break; the length is that of all of it."""
    records: dict[bytes, bytes] = {}
    place = 0
    while place < len(data) and data[place]:
        found = _PAX_RECORD.match(data, place)
        end = place + int(found[1]) if found else 0
        if found is None or not found.end() < end <= len(data):
            raise BrokenTarError("an extended header without pax records")
        records[found[2]] = data[found.end() : end - 1]
        place = end
    return records
