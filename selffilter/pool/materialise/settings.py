"""What the new shards are to look like."""

from __future__ import annotations

from dataclasses import dataclass

from selffilter.config import PoolConfig
from selffilter.errors import UserError

FORMATS = ("keep", "jpg", "webp")


@dataclass(frozen=True)
class ShardSettings:
    """What decides the bytes of the new shards.

    Attributes:
        samples_per_shard: A shard holds so many samples at most.
        seed: Of the order.
        repeat: Write a row as often as its weight, instead of once.
        resize: Images whose shorter side is longer are made so small; None: images stay as they
            are.
        format: One of `FORMATS`; "keep": that of each image.
        quality: Of JPEG and WebP, from 1 to 100.
        max_image_pixels: Larger images are left out.
        max_image_bytes: Likewise, before they are read.
    """

    samples_per_shard: int = 10_000
    seed: int = 0
    repeat: bool = False
    resize: int | None = None
    format: str = "keep"
    quality: int = 90
    max_image_pixels: int = PoolConfig.max_image_pixels
    max_image_bytes: int = PoolConfig.max_image_bytes

    @property
    def decodes(self) -> bool:
        """Whether images are decoded."""
        return self.resize is not None or self.format != "keep"

    def check(self) -> None:
        """Check the settings, which have the names of the command's options.

        Raises:
            UserError: If one is out of range.
        """
        if self.format not in FORMATS:
            raise UserError(f"--format {self.format!r} is not one of {', '.join(FORMATS)}.")
        for name, value, low, high in (
            ("samples-per-shard", self.samples_per_shard, 1, 10_000_000),
            ("resize", self.resize, 1, 16_383),  # the longest side of a WebP
            ("quality", self.quality, 1, 100),
        ):
            if value is not None and not low <= value <= high:
                raise UserError(f"--{name} {value} is not in [{low}, {high}].")
