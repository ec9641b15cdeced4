"""Scoring embeddings that are ready: the same signals, no model, no images.

What a pass over the pool meets batch by batch is read here chunk by chunk: memory grows by a few
bytes a row and signal, whatever the width. A row's number is its place in the embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from selffilter.errors import UserError
from selffilter.randomness import hash_rows
from selffilter.scoring.embeddings.embeddings import Embeddings
from selffilter.scoring.moments import MomentSums, SecondMoments
from selffilter.scoring.signals.facts import Bank, Facts, Pairs, Target
from selffilter.scoring.signals.signal import Signal

Device = torch.device | str
Progress = Callable[[int], None]

_ODD = np.uint64(0x9E3779B97F4A7C15)


def score_embeddings(
    embeddings: Embeddings,
    signals: Mapping[str, Signal],
    facts: Facts,
    usable_N: NDArray[np.bool_],
    *,
    span: tuple[int, int] | None = None,
    reference: Embeddings | None = None,
    device: Device = "cpu",
    rows_at_once: int = 4096,
    progress: Progress = lambda _: None,
) -> dict[str, NDArray[np.float32]]:
    """Score rows with some signals.

    Args:
        embeddings: Of the pool.
        signals: Column name → signal.
        facts: What they need, on the device: see `draw_bank`, `pool_moments` and `load_target`.
        usable_N: Which rows (of the span) can be used; the others get NaN.
        span: Rows begin to end, to score a part of the pool; None: all.
        reference: The same rows' embeddings by the reference model (see `refuse_other_rows`).
        device: Where to compute.
        rows_at_once: In memory.
        progress: Called with the number of rows just scored.

    Returns:
        A column a signal, (end − begin,) float32.

    Raises:
        UserError: If a signal needs what ready embeddings do not have.
    """
    for name, signal in signals.items():
        if "flipped" in signal.needs:
            raise UserError(f"{name} looks at mirrored images: embeddings do not have them.")
        if "reference" in signal.needs and reference is None:
            raise UserError(f"{name} needs embeddings by a reference model too.")
    begin, end = span or (0, embeddings.rows)
    if reference is not None and span is None:
        refuse_other_rows(embeddings, reference)
    columns = {name: np.full(end - begin, np.nan, np.float32) for name in signals}
    for start in range(begin, end, rows_at_once):
        stop = min(start + rows_at_once, end)
        usable_n = usable_N[start - begin : stop - begin]
        pairs = _pairs(embeddings, start, stop, device)
        if reference is not None:
            pairs = replace(pairs, reference=_pairs(reference, start, stop, device))
        for name, signal in signals.items():
            score_n = signal(pairs, facts).float().cpu().numpy()
            if not np.isfinite(score_n[usable_n]).all():
                raise UserError(_why_not_finite(embeddings, name))
            column_n = columns[name][start - begin : stop - begin]  # a view
            column_n[usable_n] = score_n[usable_n]
        progress(stop - start)
    return columns


def identities(embeddings: Embeddings) -> NDArray[np.int64]:
    """Return a number for each row that depends on its uid alone, (N,) int64.

    What is drawn by it does not depend on how the rows are spread over files. Rows of the same uid
    have the same number.
    """
    uids_N2 = embeddings.uids()
    with np.errstate(over="ignore"):
        return (uids_N2[:, 0] ^ (uids_N2[:, 1] * _ODD)).view(np.int64)


def draw_bank(
    embeddings: Embeddings,
    identity_N: NDArray[np.int64],
    usable_N: NDArray[np.bool_],
    size: int,
    seed: int,
    device: Device = "cpu",
) -> Bank:
    """Draw a bank of usable rows, uniformly without replacement; all of them if there are fewer.

    Args:
        embeddings: Of the pool.
        identity_N: See `identities`.
        usable_N: Which rows can be used.
        size: Of the bank.
        seed: What is drawn depends on it and on the uids, not on the order of the files.
        device: Where the bank goes.
    """
    rows = np.flatnonzero(usable_N)
    drawn_M = rows[np.argsort(hash_rows(identity_N[rows], seed, "bank"), kind="stable")[:size]]
    return Bank(
        embeddings.gather("image", drawn_M, device),
        embeddings.gather("text", drawn_M, device),
        torch.from_numpy(drawn_M).to(device),
    )


def pool_moments(
    embeddings: Embeddings,
    usable_N: NDArray[np.bool_],
    *,
    device: Device = "cpu",
    rows_at_once: int = 8192,
    progress: Progress = lambda _: None,
) -> SecondMoments:
    """Return the exact second moments of all usable rows, summed in float64.

    Raises:
        UserError: If there is none.
    """
    if not usable_N.any():
        raise UserError(f"{embeddings.folder} has no usable row.")
    adding = MomentSums()
    for start in range(0, embeddings.rows, rows_at_once):
        stop = min(start + rows_at_once, embeddings.rows)
        keep = torch.from_numpy(usable_N[start:stop]).to(device)
        sides = [embeddings.read(side, start, stop, device)[keep] for side in embeddings.sides]
        adding.add(*sides)
        progress(stop - start)
    return adding.moments()


def load_target(
    embeddings: Embeddings,
    usable_N: NDArray[np.bool_],
    *,
    keep_features: bool = True,
    device: Device = "cpu",
) -> Target:
    """Make a target set of embeddings, by the same model as the pool's.

    Args:
        embeddings: Of the target set; its captions may be absent.
        usable_N: Which of its rows can be used.
        keep_features: Hold the images' features on the device, 4·D bytes each: NormSim_∞ needs
            them, the other signals its moments alone.
        device: Where it goes.
    """
    moments = pool_moments(embeddings, usable_N, device=device)
    if not keep_features:
        return Target(moments)
    return Target(moments, embeddings.gather("image", np.flatnonzero(usable_N), device))


def _pairs(embeddings: Embeddings, start: int, stop: int, device: Device) -> Pairs:
    image_BD = embeddings.read("image", start, stop, device)
    if "text" in embeddings.sides:
        text_BD = embeddings.read("text", start, stop, device)
    else:  # a signal that looks at captions will show it
        text_BD = torch.full_like(image_BD, torch.nan)
    return Pairs(image_BD, text_BD, torch.arange(start, stop, device=device))


def _why_not_finite(embeddings: Embeddings, signal: str) -> str:
    if "text" not in embeddings.sides:
        return f"{signal} looks at captions: {embeddings.folder} has no text embeddings."
    return f"{signal} is not finite for rows of {embeddings.folder} whose embeddings are."


def refuse_other_rows(embeddings: Embeddings, reference: Embeddings) -> None:
    """Refuse two models' embeddings that are not of the same rows in the same order.

    Raises:
        UserError: If they are not.
    """
    ours, theirs = embeddings.uids(), reference.uids()
    if ours.shape != theirs.shape or (ours != theirs).any():
        raise UserError(
            f"{reference.folder} has not the same rows in the same order as {embeddings.folder}: "
            f"{len(theirs)} and {len(ours)}."
        )
