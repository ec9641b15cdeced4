"""A row of the source as a sample of a new shard: its members, and its line in the Parquet file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from selffilter.pool.captions import MAX_MEMBER_BYTES, CaptionKey, decode_captions
from selffilter.pool.failures import Failure, UnusableSample
from selffilter.pool.materialise.fetch import Source
from selffilter.pool.materialise.pictures import Picture, make_picture
from selffilter.pool.materialise.settings import ShardSettings

CAPTION = "txt"
"""Where readers of img2dataset's shards look for captions."""


class Sample(NamedTuple):
    """What is written of a row.

    Attributes:
        members: Extension → bytes; the image's extension first.
        picture: The image.
        caption: Its first caption.
        json_lost: Whether it had a json that could not be taken along.
    """

    members: dict[str, bytes]
    picture: Picture
    caption: str
    json_lost: bool


def make_sample(
    source: Source, stated: Mapping[str, Any], caption_key: CaptionKey, settings: ShardSettings
) -> Sample:
    """Make a sample whose captions are those of the source by the same caption key.

    Args:
        source: The bytes of the row.
        stated: What its json says in any case: ``uid``, ``key``, ``weight``.
        caption_key: Where captions stand.
        settings: What becomes of the image.

    Raises:
        UnusableSample: If it has no usable image or caption.
    """
    if source.failure:
        raise UnusableSample(source.failure)
    if source.image is None:
        raise UnusableSample(Failure.missing_image)
    captions = decode_captions(
        caption_key, source.caption, source.about if caption_key.uses_json else None
    )
    picture = make_picture(source.image, settings)
    about, lost = _about(source, picture, stated, caption_key)
    members = {picture.extension: picture.data, "json": about}
    if caption_key.member is not None and source.caption is not None:
        members[caption_key.member] = source.caption
    # Not where the key would take it for one more caption.
    if caption_key.member != CAPTION:
        members[CAPTION] = captions[0].encode()
    return Sample(members, picture, captions[0], lost)


def _about(
    source: Source, picture: Picture, stated: Mapping[str, Any], caption_key: CaptionKey
) -> tuple[bytes, bool]:
    """Return the json of the sample, and whether what stood in the source's is lost."""
    about = _parse(source.about)
    lost = source.has_json and about is None
    about = about or {}
    if (picture.width, picture.height) != (picture.original_width, picture.original_height):
        about |= {"width": picture.width, "height": picture.height}
    whole = _encode(about | dict(stated))
    if len(whole) <= MAX_MEMBER_BYTES:
        return whole, lost
    # Too large a json is never read, and the uid would be lost with it.
    least = {name: about[name] for name in caption_key.fields if name in about}
    for some in (least, {}):
        cut = _encode(some | dict(stated))
        if len(cut) <= MAX_MEMBER_BYTES:
            break
    if least and not some:
        raise UnusableSample(Failure.caption_unreadable, "the json has grown too large")
    return cut, True


def _parse(data: bytes | None) -> dict[str, Any] | None:
    try:
        value = json.loads(data or b"")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _encode(value: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half a character, which only an escape can say
        return json.dumps(value).encode()
