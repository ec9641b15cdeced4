"""negCLIPLoss (arXiv 2405.19547) as published, over random batches of a pool's ready embeddings.

For a random batch B of b pairs that contains i
``R_i(B) = (τ/2)·[log mean_{j∈B} exp(s_ij/τ) + log mean_{j∈B} exp(s_ji/τ)]`` (both with j = i), and
``score_i = s_ii − (1/K) Σ_k R_i(B_k)``; higher is better. Published is the log of the sum, lower by
the constant τ·log b; b = 32,768, K = 10, τ = 0.01.

Where the released code and the formula part, this keeps to the formula: log-sum-exp instead of a
float32 exp that overflows near s = 0.887 at τ = 0.01; each draw is a seeded permutation of the
*whole* pool by uid, so neither files nor their order matter; all batches have b rows: the last one
is filled up with the first rows of its permutation, which count there as others only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selffilter.errors import UserError
from selffilter.randomness import hash_rows
from selffilter.scoring.embeddings.embeddings import Embeddings, unit_norm

PUBLISHED_BATCH_SIZE = 32_768
PUBLISHED_DRAWS = 10


def permuted_neg_clip_loss(
    embeddings: Embeddings,
    identity_N: NDArray[np.int64],
    usable_N: NDArray[np.bool_],
    *,
    temperature: float,
    seed: int,
    batch_size: int = PUBLISHED_BATCH_SIZE,
    draws: int = PUBLISHED_DRAWS,
    device: torch.device | str = "cpu",
    memory_bytes: int = 4 * 2**30,
    rows_at_once: int = 1024,
    progress: Callable[[int], None] = lambda _: None,
) -> NDArray[np.float32]:
    """Score every usable row of a pool.

    A permuted batch lies all over the files. So as many batches as fit into `memory_bytes` are read
    together, in one sweep from front to back.

    Args:
        embeddings: With images and texts.
        identity_N: `ready.identities`.
        usable_N: Which rows can be used; the others are in no batch and get NaN.
        temperature: τ.
        seed: Of the permutations.
        batch_size: b; all usable rows are one batch if there are fewer.
        draws: K.
        device: Where to compute.
        memory_bytes: For embeddings read ahead, as they are stored.
        rows_at_once: Of a batch, whose b logits each are in memory.
        progress: Called with the number of rows just done; draws × usable rows in all.

    Returns:
        (N,) float32; another batch on another device differs by rounding alone.

    Raises:
        UserError: If no row is usable.
    """
    rows = np.flatnonzero(usable_N)
    if not len(rows):
        raise UserError(f"{embeddings.folder} has no usable row.")
    batch_size = min(batch_size, len(rows))
    bytes_a_row = sum(embeddings.gather_raw(side, rows[:1]).nbytes for side in ("image", "text"))
    batches_at_once = max(1, memory_bytes // (bytes_a_row * batch_size))
    own_N = np.full(embeddings.rows, np.nan, np.float32)
    sum_N = np.zeros(embeddings.rows, np.float64)
    for draw in range(draws):
        order = rows[
            np.argsort(hash_rows(identity_N[rows], seed, "permutation", draw), kind="stable")
        ]
        for group in _groups(order, batch_size, batches_at_once):
            whole = _filled_up(group, order, batch_size)
            image_GD = embeddings.gather_raw("image", whole)
            text_GD = embeddings.gather_raw("text", whole)
            for first in range(0, len(group), batch_size):
                image_BD, text_BD = (
                    unit_norm(side_GD[first : first + batch_size].to(device))
                    for side_GD in (image_GD, text_GD)
                )
                own_B, others_B = against_batch(image_BD, text_BD, temperature, rows_at_once)
                counted = group[first : first + batch_size]
                own_N[counted] = own_B.cpu().numpy()[: len(counted)]
                sum_N[counted] += others_B.cpu().numpy()[: len(counted)]
                progress(len(counted))
            del image_GD, text_GD  # before the next group is read
    return (own_N - sum_N / draws).astype(np.float32)


def against_batch(
    image_features_BD: Tensor, text_features_BD: Tensor, temperature: float, rows_at_once: int
) -> tuple[Tensor, Tensor]:
    """Compare the pairs of a batch with each other.

    Args:
        image_features_BD: Unit-norm, float32 (or float64).
        text_features_BD: Likewise.
        temperature: τ.
        rows_at_once: Rows of the logits in memory.

    Returns:
        ``s_ii`` and ``R_i``, (B,) each.
    """
    size = len(image_features_BD)
    to_text, to_image_B = [], image_features_BD.new_full((size,), -torch.inf)
    for part_bD in image_features_BD.split(rows_at_once):
        logits_bB = part_bD @ text_features_BD.T / temperature
        to_text.append(torch.logsumexp(logits_bB, dim=1))
        to_image_B = torch.logaddexp(to_image_B, torch.logsumexp(logits_bB, dim=0))
    own_B = (image_features_BD * text_features_BD).sum(dim=-1)
    log_mean_B = 0.5 * (torch.cat(to_text) + to_image_B) - math.log(size)
    return own_B, temperature * log_mean_B


def _groups(
    order: NDArray[np.int64], batch_size: int, batches_at_once: int
) -> Iterator[NDArray[np.int64]]:
    """Cut a permutation into what is read together: whole batches, but for the last."""
    size = batch_size * batches_at_once
    return (order[first : first + size] for first in range(0, len(order), size))


def _filled_up(
    group: NDArray[np.int64], order: NDArray[np.int64], batch_size: int
) -> NDArray[np.int64]:
    """Fill the last batch up: with the first rows of the permutation, which are not in it."""
    return np.concatenate([group, order[: -len(group) % batch_size]])
