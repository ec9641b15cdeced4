"""What stands where in one tar: headers are read, image and caption payloads are not.

Webdataset's rule: a sample is a run of consecutive members with one key; the key ends at the first
dot of the basename, the rest is the extension.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from selffilter.pool.uids import uid_bytes

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "gif")
_MAX_JSON_BYTES = 1 << 20
_ABSENT = (-1, -1)
_META = re.compile(r"__[^/]*__($|/)")

Members = dict[str, tuple[int, int]]
"""Extension → (offset, size) in bytes of a sample's member."""


class BrokenTarError(Exception):
    """What is wrong with a tar; the samples before the break are good."""


@dataclass
class ShardScan:
    """The samples of one tar, as columns.

    Attributes:
        keys: Key of each sample.
        uids: 16 bytes each.
        image: (offset, size) in bytes of each image member; (-1, -1) where there is none.
        caption: Likewise the member that holds the caption.
        json: Likewise the json member.
        problem: Why the scan ended early, or "".
    """

    keys: list[str] = field(default_factory=list)
    uids: list[bytes] = field(default_factory=list)
    image: list[tuple[int, int]] = field(default_factory=list)
    caption: list[tuple[int, int]] = field(default_factory=list)
    json: list[tuple[int, int]] = field(default_factory=list)
    problem: str = ""


def caption_member(caption_key: str) -> str:
    """Return the extension of the member that holds the caption ("json:caption" → "json")."""
    return caption_key.partition(":")[0]


def scan_tar(path: Path, source: str, relative: str, caption_key: str) -> ShardScan:
    """Scan one tar. A broken tar gives the samples before the break and says what is wrong.

    Args:
        path: The tar.
        source: Name of its source, for the uids of samples that state none.
        relative: Its path below the source, likewise.
        caption_key: "txt" (an extension) or "json:caption" (a field of a json member).

    Raises:
        OSError: If the file cannot be read at all.
    """
    scan = ShardScan()
    with path.open("rb") as raw:
        try:
            for key, members in iterate_samples(raw, path.stat().st_size):
                scan.keys.append(key)
                scan.image.append(image_member(members))
                scan.caption.append(members.get(caption_member(caption_key), _ABSENT))
                scan.json.append(members.get("json", _ABSENT))
                stated = _read_json(raw, members.get("json", _ABSENT)).get("uid")
                scan.uids.append(uid_bytes(stated, source, relative, key))
        except BrokenTarError as error:
            scan.problem = str(error)
    return scan


def iterate_samples(raw: BinaryIO, file_size: int) -> Iterator[tuple[str, Members]]:
    """Walk the headers of a tar.

    Args:
        raw: The tar, open and seekable.
        file_size: Its size in bytes.

    Yields:
        Key and members of each sample.

    Raises:
        BrokenTarError: After the samples before the break.
    """
    key: str | None = None
    members: Members = {}
    problem = ""
    try:
        with tarfile.open(fileobj=raw, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it keeps them all otherwise
                if not member.isreg() or member.issparse():
                    continue
                if member.offset_data + member.size > file_size:
                    problem = f"cut off inside {member.name!r}"
                    break
                name, extension = _split_key(member.name)
                if not name:
                    continue
                if name != key:
                    if members:
                        yield str(key), members
                    key, members = name, {}
                members.setdefault(extension, (member.offset_data, member.size))
                raw.seek(member.offset_data + member.size)
            else:
                problem = _wrong_end(raw, tar.offset)  # type: ignore[attr-defined]
    except (tarfile.TarError, EOFError, ValueError) as error:
        problem = str(error) or type(error).__name__
    if members:
        yield str(key), members
    if problem:
        raise BrokenTarError(problem)


def image_member(members: Members) -> tuple[int, int]:
    """Return where a sample's image stands; (-1, -1) if it has none."""
    return next((members[e] for e in IMAGE_EXTENSIONS if e in members), _ABSENT)


def _wrong_end(raw: Any, offset: int) -> str:
    """Say what is wrong where no more member was found: to tarfile any bad header is the end."""
    raw.seek(offset)
    block = raw.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        return "cut off: the end-of-archive marker is missing"
    return f"no member and no end at byte {offset}" if block.strip(b"\0") else ""


def _split_key(name: str) -> tuple[str, str]:
    """Return key and extension; no key for what webdataset passes over (README, .hidden, __x__)."""
    folder, _, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    if not stem or not dot or _META.match(name):
        return "", ""
    key = f"{folder}/{stem}" if folder else stem
    # A name that is not UTF-8 comes with surrogates, which no table can hold.
    key = key.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return key, extension.lower()


def _read_json(raw: Any, place: tuple[int, int]) -> dict[str, Any]:
    """Read a json member for its uid; what is not a json object states none."""
    offset, size = place
    if not 0 <= size <= _MAX_JSON_BYTES:
        return {}
    here = raw.tell()
    raw.seek(offset)
    text = raw.read(size)
    raw.seek(here)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
