"""Webdataset tars, written so that nothing but names and bytes of the samples is in them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from selffilter.store import write_atomically

_SIGNATURES = (
    (0, b"\xff\xd8\xff", "jpg"),
    (0, b"\x89PNG", "png"),
    (0, b"GIF8", "gif"),
    (8, b"WEBP", "webp"),
)


def write_tar(path: Path, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> None:
    """Write a tar atomically: same owner, mode and time for all members, sorted by extension.

    Args:
        path: The tar.
        samples: Key, and extension → bytes; taken one at a time.
    """

    def write(file: Any) -> None:
        # POSIX.1-2001: as USTAR, but for names that do not fit there.
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for key, members in samples:
                for extension, data in sorted(members.items()):
                    info = tarfile.TarInfo(f"{key}.{extension}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
                tar.members = []  # type: ignore[attr-defined]  # it keeps them all otherwise

    write_atomically(path, write)


def sample_members(
    image: bytes, about: Mapping[str, Any], caption: str, caption_key: str = "txt"
) -> dict[str, bytes]:
    """Return the members of a sample.

    Args:
        image: Its encoded image.
        about: Its json. A field ``caption`` in it is replaced.
        caption: Its caption.
        caption_key: Where it goes; see `tar_scan.scan_tar`.
    """
    member, _, field = caption_key.partition(":")
    about = dict(about)
    if "caption" in about:
        about["caption"] = caption
    members = {image_extension(image): image}
    if not field:
        members[member] = caption.encode()
    elif member == "json":
        about[field] = caption
    else:
        members[member] = _json_bytes({field: caption})
    return members | {"json": _json_bytes(about)}


def image_extension(image: bytes) -> str:
    """Return ``jpg``, ``png``, ``gif`` or ``webp`` by the first bytes; ``jpg`` if none fits."""
    for offset, signature, extension in _SIGNATURES:
        if image[offset : offset + len(signature)] == signature:
            return extension
    return "jpg"


def _json_bytes(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
