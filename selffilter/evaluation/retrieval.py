"""Image-text retrieval, exact, in blocks of the similarity matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from selffilter.evaluation.classification import Metrics
from selffilter.evaluation.similarity import similarities

RECALL_AT = (1, 5, 10)
_BLOCK_ENTRIES = 1 << 25
"""Similarities held at once: 128 MiB as float32, twice that in float64."""


def retrieval_metrics(
    image_features_ID: Tensor,
    text_features_TD: Tensor,
    image_of_text_T: Tensor,
    block_entries: int = _BLOCK_ENTRIES,
) -> Metrics:
    """Return the recalls of both directions at 1, 5 and 10, and the mean of those at 1.

    ``text_retrieval_recall@k``: the share of images of which some caption is among the k most
    similar captions. ``image_retrieval_recall@k``: the share of captions whose image is among the
    k most similar images. ``mean_recall@1`` is DataComp's main metric. Ties count against the
    model.

    Args:
        image_features_ID: (I, D) unit norm.
        text_features_TD: (T, D) unit norm.
        image_of_text_T: (T,) int64, the image that each caption belongs to; each has one or more.
        block_entries: Similarities held at once; changes nothing but memory and speed.
    """
    text_rank_I = best_text_rank(
        image_features_ID, text_features_TD, image_of_text_T, block_entries
    )
    image_rank_T = image_rank(image_features_ID, text_features_TD, image_of_text_T, block_entries)
    metrics: Metrics = {}
    for what, rank in (("image", image_rank_T), ("text", text_rank_I)):
        for k in RECALL_AT:
            metrics[f"{what}_retrieval_recall@{k}"] = float((rank < k).double().mean())
    both = (image_rank_T, text_rank_I)
    metrics["mean_recall@1"] = sum(float((rank < 1).double().mean()) for rank in both) / 2
    return metrics


def image_rank(
    image_features_ID: Tensor,
    text_features_TD: Tensor,
    image_of_text_T: Tensor,
    block_entries: int = _BLOCK_ENTRIES,
) -> Tensor:
    """Return how many other images are at least as similar to each caption as its own, (T,)."""
    ranks = []
    for block in _blocks(len(text_features_TD), len(image_features_ID), block_entries):
        similarity_bI = similarities(text_features_TD[block], image_features_ID)
        own_b1 = similarity_bI.gather(1, image_of_text_T[block, None])
        # Not `>=`: what is not a number must not look like a hit.
        ranks.append((~(similarity_bI < own_b1)).sum(dim=1) - 1)
    return torch.cat(ranks)


def best_text_rank(
    image_features_ID: Tensor,
    text_features_TD: Tensor,
    image_of_text_T: Tensor,
    block_entries: int = _BLOCK_ENTRIES,
) -> Tensor:
    """Return how many captions of others are at least as similar as an image's best own, (I,)."""
    ranks = []
    for block in _blocks(len(image_features_ID), len(text_features_TD), block_entries):
        similarity_bT = similarities(image_features_ID[block], text_features_TD)
        image_b1 = torch.arange(block.start, block.stop, device=image_of_text_T.device)[:, None]
        own_bT = image_of_text_T == image_b1
        best_own_b1 = similarity_bT.where(own_bT, -torch.inf).amax(dim=1, keepdim=True)
        ranks.append((~(similarity_bT < best_own_b1) & ~own_bT).sum(dim=1))
    return torch.cat(ranks)


def _blocks(rows: int, columns: int, entries: int) -> list[slice]:
    size = max(1, entries // max(1, columns))
    return [slice(first, min(first + size, rows)) for first in range(0, rows, size)]
