"""Whose rows scores and embeddings are of, as plain values for the records beside them."""

from __future__ import annotations

from typing import Any

from selffilter.pool.index import Pool


def pool_record(pool: Pool) -> dict[str, Any]:
    """Return whose rows they are: those of a version of a pool's index, wherever it lies now."""
    return {
        "kind": "pool",
        "version": pool.rows_version,
        "name": ", ".join(pool.sources),
        "rows": pool.rows,
        "shards": pool.shards,
        "caption_key": pool.caption_key,
    }
