"""What stands where in one tar: headers are read, image and caption payloads are not.

Webdataset's rule: a sample is a run of consecutive members with one key; the key ends at the first
dot of the basename, the rest is the extension.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from selffilter.pool.captions import CaptionKey
from selffilter.pool.decoding import IMAGE_EXTENSIONS
from selffilter.pool.stores.find import Stores
from selffilter.pool.tar_headers import BrokenTarError, iterate_members
from selffilter.pool.uids import uid_bytes

_MAX_JSON_BYTES = 1 << 20
_MAX_SAMPLED_BYTES = 4 << 20
"""A larger member's bytes are not read for the digest, only its name and size."""
_ABSENT = (-1, -1)
_META = re.compile(r"__[^/]*__($|/)")

Members = dict[str, tuple[int, int]]
"""Extension → (offset, size) in bytes of a sample's member."""


@dataclass
class ShardScan:
    """The samples of one tar, as columns.

    Attributes:
        keys: Key of each sample.
        uids: 16 bytes each.
        image: (offset, size) in bytes of each image member; (-1, -1) where there is none.
        caption: Likewise the member that holds the captions: the one that the caption key names,
            or the json if it names no other.
        json: Likewise the json member.
        extensions: How many samples have a member of each extension.
        problem: Why the scan ended early, or "".
        bytes: How far the scan got.
        digest: Of the bytes of some members, see `_Sampled`: 32 hex digits.
    """

    keys: list[str] = field(default_factory=list)
    uids: list[bytes] = field(default_factory=list)
    image: list[tuple[int, int]] = field(default_factory=list)
    caption: list[tuple[int, int]] = field(default_factory=list)
    json: list[tuple[int, int]] = field(default_factory=list)
    extensions: Counter[str] = field(default_factory=Counter)
    problem: str = ""
    bytes: int = field(default=0, compare=False)
    digest: str = field(default="", compare=False)


def scan_tar(location: str, source: str, relative: str, caption_key: str) -> ShardScan:
    """Scan one tar. A broken tar gives the samples before the break and says what is wrong.

    Args:
        location: Where the tar lies: a path, a URL or a ``pipe:`` command.
        source: Name of its source, for the uids of samples that state none.
        relative: Its path below the source, likewise.
        caption_key: Where captions stand; see `CaptionKey`.

    Raises:
        OSError: If the tar cannot be read.
        UserError: If the caption key is none.
    """
    key_of_captions = CaptionKey.parse(caption_key)
    caption_extension = key_of_captions.member or "json"
    scan, sampled = ShardScan(), _Sampled()
    store = Stores().of(location)
    size = store.stat(location).size
    with store.open(location) as raw:
        try:
            for key, members, about in _iterate(raw, size, sampled):
                scan.keys.append(key)
                scan.image.append(image_member(members))
                scan.caption.append(members.get(caption_extension, _ABSENT))
                scan.json.append(members.get("json", _ABSENT))
                scan.extensions.update(members.keys())
                scan.uids.append(uid_bytes(_stated_uid(about), source, relative, key))
        except BrokenTarError as error:
            scan.problem = str(error)
        scan.bytes = raw.tell()
    scan.digest = sampled.digest()
    return scan


def iterate_samples(raw: BinaryIO, file_size: int | None) -> Iterator[tuple[str, Members]]:
    """Walk the headers of a tar.

    Args:
        raw: The tar, open at its beginning.
        file_size: Its size in bytes; None if nobody knows.

    Yields:
        Key and members of each sample.

    Raises:
        BrokenTarError: After the samples before the break.
    """
    for key, members, _ in _iterate(raw, file_size, None):
        yield key, members


def image_member(members: Members) -> tuple[int, int]:
    """Return where a sample's image stands; (-1, -1) if it has none."""
    return next((members[e] for e in IMAGE_EXTENSIONS if e in members), _ABSENT)


class _Sampled:
    """The digest of some members of a tar, the more of them the nearer to its beginning.

    Those of the samples 0, 1, 2, 4, 8, … (but for the first member, and with that of the sample
    after it: which sample a member begins is not known before it is read). So a tar of 10,000
    samples costs 15 reads more, and one that was copied with other pictures in the same places is
    found out, unless it is those alone that are the same.
    """

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._next = 0
        self.wanted = True

    def sample_begins(self, number: int) -> None:
        """Told when the first member of a sample has been read."""
        self.wanted = number == self._next
        if self.wanted:
            self._next = max(1, 2 * number)

    def add(self, name: str, size: int, data: bytes | None) -> None:
        """Take a member."""
        said = f"{name}\0{size}\0".encode("utf-8", "surrogateescape")
        self._hash.update(said + (data if data is not None else b""))

    def digest(self) -> str:
        """Return the digest of what was taken, 32 hex digits."""
        return self._hash.hexdigest()


def _iterate(
    raw: BinaryIO, file_size: int | None, sampled: _Sampled | None
) -> Iterator[tuple[str, Members, bytes]]:
    """Walk the headers of a tar, and take along the bytes that are wanted: there is no way back.

    Args:
        raw: The tar, open at its beginning.
        file_size: Its size in bytes; None if nobody knows.
        sampled: Is given some members; the jsons are then read, too. None: headers alone are.

    Yields:
        Key, members, and the bytes of the json member (b"" if there is none, or it is too large).
    """

    def is_wanted(name: str, size: int) -> bool:
        if sampled is None:
            return False
        if sampled.wanted and size <= _MAX_SAMPLED_BYTES:
            return True
        return size <= _MAX_JSON_BYTES and name[-5:].lower() == ".json"

    key: str | None = None
    members: Members = {}
    about = b""
    broken: BrokenTarError | None = None
    begun = 0
    try:
        for member in iterate_members(raw, file_size, is_wanted):
            if sampled is not None and sampled.wanted:
                sampled.add(member.name, member.size, member.data)
            name, extension = _split_key(member.name)
            if not name:
                continue
            if name != key:
                if members:
                    yield str(key), members, about
                key, members, about = name, {}, b""
                if sampled is not None:
                    sampled.sample_begins(begun)
                begun += 1
            if extension not in members:
                members[extension] = (member.offset, member.size)
                if extension == "json" and member.size <= _MAX_JSON_BYTES:
                    about = member.data or b""
    except BrokenTarError as error:
        broken = error
    if members:
        yield str(key), members, about
    if broken is not None:
        raise broken


def _split_key(name: str) -> tuple[str, str]:
    """Return key and extension; no key for what webdataset passes over (README, .hidden, __x__)."""
    folder, _, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    if not stem or not dot or ("__" in name and _META.match(name)):
        return "", ""
    key = f"{folder}/{stem}" if folder else stem
    # A name that is not UTF-8 comes with surrogates, which no table can hold.
    if not key.isascii():
        key = key.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return key, extension.lower()


def _stated_uid(text: bytes) -> Any:
    """Return what a json says under ``uid``; what is no json object says nothing."""
    # Most jsons state none, and need no parsing for that: without a backslash a key stands there
    # as it is, and without a zero byte the text is neither UTF-16 nor UTF-32.
    if b'"uid"' not in text and b"\\" not in text and b"\0" not in text:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value.get("uid") if isinstance(value, dict) else None
