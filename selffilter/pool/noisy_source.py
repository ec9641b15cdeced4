"""The pool that noise is planted in: what of it is held in memory, and how to get the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selffilter.config import PoolConfig
from selffilter.errors import UserError
from selffilter.pool import uids
from selffilter.pool.captions import MAX_MEMBER_BYTES, CaptionKey, decode_captions
from selffilter.pool.decoding import decode_image
from selffilter.pool.failures import Failure, UnusableSample, count_by_reason
from selffilter.pool.index import Pool
from selffilter.pool.noise.near_duplicates import MAX_SIDE, vary_image
from selffilter.pool.noise.planted import Kind, Planted
from selffilter.pool.noise.settings import KEPT_FIELDS, NoiseSettings
from selffilter.pool.noise.text_in_image import picture_of
from selffilter.pool.noise.texts import Texts
from selffilter.pool.row_reader import RowReader
from selffilter.pool.writing import image_extension, sample_members
from selffilter.progress import Bar

_MAX_IMAGE_BYTES = 256 << 20


class NoiseSource:
    """A pool, read for planting. A *row* is a number in the index, a *place* counts usable rows.

    Args:
        pool: The index.
        settings: Which fields to read, and which to write.

    Attributes:
        pool: As given.
        failure_N: (rows of the index,) uint8, why a row is left out (`Failure`).
        rows_N: (places,) int64, the row of each place.
        uid_texts: The uid of each place.
        counts_S: (S,) int64, places in each shard.
        texts: What the places say; there after `read`.
    """

    texts: Texts

    def __init__(self, pool: Pool, settings: NoiseSettings) -> None:
        self.pool = pool
        self._settings = settings
        self._caption_key = CaptionKey.parse(pool.caption_key)
        self._reader = RowReader(pool)
        self.failure_N = np.zeros(pool.rows, dtype=np.uint8)
        self._large_json: set[int] = set()
        self.uid_texts: list[str] = []
        self.rows_N: NDArray[np.int64] = np.empty(0, np.int64)
        self.counts_S: NDArray[np.int64] = np.zeros(pool.shards, np.int64)

    def read(self, bar: Bar) -> None:
        """Read captions, labels and clusters of all rows; find out which rows can be used.

        Raises:
            UserError: If no row can, or no row has the label or cluster that the settings name.
        """
        captions: list[str] = []
        named: dict[str, list[str | None]] = {"label": [], "cluster": []}
        keys = {"label": self._settings.label_key, "cluster": self._settings.cluster_key}
        rows: list[int] = []
        for shard in range(self.pool.shards):
            self._note_defects(shard)
            for row in self.pool.shard_rows(shard).tolist():
                if self.failure_N[row]:
                    continue
                try:
                    captions.append(self._caption(row))
                except UnusableSample as verdict:
                    self.failure_N[row] = verdict.failure
                    continue
                rows.append(row)
                about = self._json(row) if any(keys.values()) else {}
                for what, key in keys.items():
                    named[what].append(_name(about.get(key)) if key else None)
            bar.advance(1)
        if not rows:
            reasons = count_by_reason(self.failure_N)
            raise UserError(f"no sample can be used: {reasons}. Is --caption-key right?")
        for what, key in keys.items():
            if key and not any(named[what]):
                raise UserError(f"--{what}-key {key}: no sample's json has such a field.")
        self.rows_N = np.array(rows, dtype=np.int64)
        self.uid_texts = uids.to_hex(self.pool.uids_of(self.rows_N))
        self.counts_S = np.bincount(self.pool.shard_of(self.rows_N), minlength=self.pool.shards)
        self.texts = Texts(captions, named["label"], named["cluster"] if keys["cluster"] else None)

    def _note_defects(self, shard: int) -> None:
        rows, failures = self.pool.defects(shard)
        self.failure_N[rows] = failures
        table, here = self.pool.shard_table(shard), self.pool.shard_rows(shard)
        for column, most, failure in (
            ("image_size", _MAX_IMAGE_BYTES, Failure.image_too_large),
            ("caption_size", MAX_MEMBER_BYTES, Failure.caption_unreadable),
        ):
            large = here[table[column].to_numpy() > most]
            self.failure_N[large[self.failure_N[large] == 0]] = failure
        self._large_json.update(here[table["json_size"].to_numpy() > MAX_MEMBER_BYTES].tolist())

    def _caption(self, row: int) -> str:
        """Return a row's first caption: noise is planted in one a row."""
        key, data = self._caption_key, self._reader.member(row, "caption")
        if key.member is None:
            return decode_captions(key, None, data)[0]
        has_json = key.uses_json and row not in self._large_json
        about = self._reader.member(row, "json") if has_json else None
        return decode_captions(key, data, about)[0]

    def _json(self, row: int) -> dict[str, Any]:
        """Return a row's json; what is not a json object of a decent size is empty."""
        if row in self._large_json:
            return {}
        try:
            value = json.loads(self._reader.member(row, "json") or b"{}")
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    def _image(self, place: int) -> bytes:
        return self._reader.member(int(self.rows_N[place]), "image") or b""

    def can_be_copied(self, place: int) -> bool:
        """Whether a sample's image can be encoded anew or its size be taken, in any format."""
        try:
            image = decode_image(self._image(place), PoolConfig.max_image_pixels)
        except UnusableSample:
            return False
        return max(image.size) <= MAX_SIDE

    def samples(self, shard: int, planted: Planted) -> Iterator[tuple[str, dict[str, bytes]]]:
        """Yield key and members of a shard's samples as they are in the noisy pool."""
        first = int(self.counts_S[:shard].sum())
        fields = {*KEPT_FIELDS, *self._settings.keep_fields}
        for place in range(first, first + int(self.counts_S[shard])):
            uid, image = self.uid_texts[place], self._image(place)
            if planted.kind_N[place] == Kind.near_duplicate:
                source = decode_image(
                    self._image(int(planted.source_N[place])), PoolConfig.max_image_pixels
                )
                extension = image_extension(image)
                image = vary_image(source, extension, self._settings.seed, place)
            elif planted.kind_N[place] == Kind.text_in_image:
                size = decode_image(image, PoolConfig.max_image_pixels).size
                image = picture_of(
                    planted.captions[place],
                    size,
                    image_extension(image),
                    self._settings.seed,
                    place,
                )
            about = {k: v for k, v in self._json(int(self.rows_N[place])).items() if k in fields}
            caption = planted.captions[place]
            yield (
                uid,
                sample_members(image, about | {"uid": uid}, caption, self._settings.caption_key),
            )


def _name(value: object) -> str | None:
    return str(value) if isinstance(value, str | int | float) and value != "" else None
