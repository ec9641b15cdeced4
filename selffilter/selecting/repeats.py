"""Sampling by score with repeats: soft cap and hard cap (FLYT, arXiv 2503.08805).

Samples are drawn by ``softmax(score / temperature)``, without replacement inside a draw; a row that
was drawn loses `penalty` of its logit (soft cap), or may be drawn `most` times at all (hard cap);
and so on until there are enough. So the best rows stand several times in a selection, the good ones
once, and the others rarely.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from selffilter.randomness import hash_rows
from selffilter.selecting.order import OrderOfTies, descending_keys, take
from selffilter.selecting.scratch import Scratch

DRAWS = 64
"""In so many draws, each of a 64th of the samples; no row stands more often in a selection."""


def sample_with_repeats(
    logits_N: NDArray[np.float32],
    among_N: NDArray[np.bool_],
    samples: int,
    *purpose: int | str,
    penalty: float = 0.15,
    most: int | None = None,
    scratch: Scratch | None = None,
) -> NDArray[np.uint16]:
    """Draw samples by their logits, with repeats.

    A draw without replacement by a softmax is the top-k of logits with Gumbel noise; the noise is a
    hash of (row, purpose, draw), so that the same arguments draw the same samples.

    Args:
        logits_N: float32, already divided by the temperature; finite where `among_N`.
        among_N: Which rows take part.
        samples: How many to draw. If every row has been drawn as often as it may be, fewer.
        *purpose: See `randomness.key_from`.
        penalty: What a row's logit loses each time it is drawn; 0: nothing.
        most: How often a row may be drawn; None: `DRAWS` times.
        scratch: Where arrays of a row each come from.

    Returns:
        (N,) uint16: how many times each row was drawn.
    """
    scratch = scratch or Scratch()
    times_N: NDArray[np.uint16] = scratch.zeros(len(logits_N), np.uint16)
    may_N: NDArray[np.bool_] = scratch.zeros(len(logits_N), np.bool_)
    left, each = samples, -(-samples // DRAWS)
    for number in range(DRAWS):
        may_N[:] = among_N if most is None else among_N & (times_N < most)
        count = min(each, left, int(may_N.sum()))
        if count == 0:
            break
        key = (*purpose, number)

        keys = partial(_noisy_keys, logits_N, times_N, penalty, key)
        times_N += take(keys, may_N, count, _BY_PLACE, scratch=scratch)
        left -= count
    return times_N


def _noisy_keys(
    logits_N: NDArray[np.float32],
    times_N: NDArray[np.uint16],
    penalty: float,
    key: tuple[int | str, ...],
    part: slice,
) -> NDArray[np.uint32]:
    places = np.arange(part.start, part.stop, dtype=np.int64)
    noisy = logits_N[part] - penalty * times_N[part] + _gumbel(hash_rows(places, *key))
    return descending_keys(noisy.astype(np.float32))


_BY_PLACE = OrderOfTies(np.argsort, lambda places: places.astype(np.uint32))


def _gumbel(hash_n: NDArray[np.uint64]) -> NDArray[np.float64]:
    uniform_n = ((hash_n >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return -np.log(-np.log(uniform_n))


def logits_of(
    scores_N: NDArray[np.float32], among_N: NDArray[np.bool_], temperature: float
) -> NDArray[np.float32]:
    """Return scores in units of `temperature` standard deviations of theirs, (N,) float32.

    So one temperature serves signals of any scale; the deviation is that of the rows that take
    part.
    """
    scores = scores_N[among_N]
    sd = float(scores.std(dtype=np.float64)) if len(scores) else 0.0
    mean = float(scores.mean(dtype=np.float64)) if len(scores) else 0.0
    scale = sd * temperature
    return ((scores_N - np.float32(mean)) / np.float32(scale or 1.0)).astype(np.float32)
