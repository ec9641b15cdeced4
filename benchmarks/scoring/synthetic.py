"""Synthetic embeddings with the gross shape of a CLIP's, written to disk as ours are.

Each side has a direction that all its features share (so that two images have a cosine of about
0.5, and an image and a caption of other things one of about 0.15), clusters of unequal size, and a
spectrum that falls off. A pair shares a part of its cluster and of itself, some pairs more of it
than others. They stand for time and memory; what they say of ranks is said of them alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from selffilter.scoring.embeddings.embeddings import Embeddings
from selffilter.scoring.embeddings.folder import EmbeddingWriter, open_folder

CLUSTERS = 1000
SHARD_ROWS = 50_000


def features(
    rows: int, width: int, seed: int = 0, at_once: int = 10_000
) -> Iterator[tuple[Tensor, Tensor]]:
    """Image and text features of some rows at a time, unit-norm, float32."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    scale_D = torch.arange(1, width + 1) ** -0.5
    scale_D = scale_D / scale_D.norm()
    centre_CD = normal(CLUSTERS, width) * scale_D
    share_C = 1 / torch.arange(1, CLUSTERS + 1)
    common_D = 0.35 * F.normalize(normal(width), dim=0)
    own_2D = 0.9 * F.normalize(normal(2, width), dim=1)
    for begin in range(0, rows, at_once):
        size = min(at_once, rows - begin)
        cluster_n = torch.multinomial(share_C, size, replacement=True, generator=generator)
        meaning_nD = centre_CD[cluster_n] + normal(size, width) * scale_D
        match_n1 = torch.rand(size, 1, generator=generator)
        yield tuple(
            F.normalize(
                common_D + own_D + 0.7 * (match_n1 * meaning_nD + normal(size, width) * scale_D),
                dim=1,
            )
            for own_D in own_2D
        )


def written(folder: Path, rows: int, width: int) -> Embeddings:
    """Embeddings on disk; what is there is taken."""
    shards = -(-rows // SHARD_ROWS)
    writer = EmbeddingWriter(folder, width, shards, {"synthetic": "benchmarks", "rows": rows})
    if not all(writer.has(shard) for shard in range(shards)):
        parts = features(rows, width)
        uids = np.random.default_rng(0).integers(0, 2**64, (rows, 2), dtype=np.uint64)
        for shard in range(shards):
            of_shard = np.arange(shard * SHARD_ROWS, min(rows, (shard + 1) * SHARD_ROWS))
            taken = (next(parts) for _ in range(-(-len(of_shard) // 10_000)))
            writer.write(shard, of_shard, uids[of_shard], taken)
    return open_folder(folder)
