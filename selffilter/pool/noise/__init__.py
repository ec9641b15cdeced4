"""Noise that can be planted in a pool, and the truth about it. Definitions: docs/noise.md.

Every kind is a pure function of the pool's texts and a seed. What was not planted is *unknown*,
not clean: the pool's own noise is still there.
"""

from selffilter.pool.noise.mismatched import plant_mismatches
from selffilter.pool.noise.plant import WEB_MIXTURE, counts_of, plant
from selffilter.pool.noise.planted import PLANTED_KINDS, Kind, Planted
from selffilter.pool.noise.texts import Texts, normalise_caption, repeated_share

__all__ = [
    "PLANTED_KINDS",
    "WEB_MIXTURE",
    "Kind",
    "Planted",
    "Texts",
    "counts_of",
    "normalise_caption",
    "plant",
    "plant_mismatches",
    "repeated_share",
]
