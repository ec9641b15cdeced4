"""What decides how much reading a pool costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from selffilter.pool.captions import CaptionKey
from selffilter.pool.index import Pool
from selffilter.pool.materialise.fetch import sizes_of
from selffilter.pool.stores.find import is_far

_SAMPLED_ROWS = 4096


@dataclass(frozen=True)
class PoolFacts:
    """What is known of a pool.

    Attributes:
        rows: Indexed.
        sample_bytes: Of a row's image and captions, on average.
        is_far: Whether it lies on a server.
    """

    rows: int
    sample_bytes: float
    is_far: bool


def pool_facts(pool: Pool) -> PoolFacts:
    """Find the facts of a pool; sizes by some rows that are spread over it."""
    rows_N = np.unique(
        np.linspace(0, pool.rows - 1, min(_SAMPLED_ROWS, pool.rows)).astype(np.int64)
    )
    sizes = sizes_of(pool, rows_N)
    bytes_N = sizes.image + sizes.caption
    if CaptionKey.parse(pool.caption_key).uses_json:
        bytes_N = bytes_N + sizes.json
    return PoolFacts(pool.rows, max(1.0, float(bytes_N.mean())), is_far(pool.location(0)))
