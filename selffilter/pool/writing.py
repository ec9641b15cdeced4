"""Webdataset tars, written so that nothing but names and bytes of the samples is in them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from selffilter.pool.captions import CaptionKey
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
        caption_key: Where it goes, see `captions.CaptionKey`: the first place named. At the others
            there is nothing.
    """
    key = CaptionKey.parse(caption_key)
    place = key.parts[0]
    about = {name: value for name, value in about.items() if name not in key.fields} | (
        {"caption": caption} if "caption" in about else {}
    )
    members = {image_extension(image): image}
    if place.field is not None:
        about[place.field] = caption
    else:
        members[place.extension] = (
            " ".join(caption.splitlines()) if place.lines else caption
        ).encode()
    return members | {"json": _json_bytes(about)}


def image_extension(image: bytes) -> str:
    """Return ``jpg``, ``png``, ``gif`` or ``webp`` by the first bytes; ``jpg`` if none fits."""
    for offset, signature, extension in _SIGNATURES:
        if image[offset : offset + len(signature)] == signature:
            return extension
    return "jpg"


def _json_bytes(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
