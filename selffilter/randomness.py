"""All pool-wide randomness: one keyed hash.

The order of training, the diverse draw, the probe and the bank are all "sort by, or threshold, a
64-bit hash of (row, keys)". A hash is a function: it needs no generator state, gives the same
answer on every rank, platform and numpy version, and any part of it can be computed alone.

The second stream of randomness, per sample (augmentation), is seeded from the same hash of
(seed, step, row): see `selffilter.pool.reading`.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def key_from(*parts: int | str) -> int:
    """Return a 64-bit key that depends on every part and their order.

    Args:
        *parts: What the random stream is for: a seed, a purpose, a round, …
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def hash_rows(rows_N: NDArray[np.int64], *parts: int | str) -> NDArray[np.uint64]:
    """Hash each row with a key: uniform on [0, 2^64), independent between keys.

    Two rounds of the splitmix64 finaliser (Steele et al., 2014), the key going in at both.

    Args:
        rows_N: Row numbers, (N,) int64.
        *parts: See `key_from`.

    Returns:
        (N,) uint64.
    """
    key = np.uint64(key_from(*parts))
    with np.errstate(over="ignore"):
        h = rows_N.astype(np.uint64) * _GOLDEN + key
        for _ in range(2):
            h = (h ^ (h >> np.uint64(30))) * _MIX_1
            h = (h ^ (h >> np.uint64(27))) * _MIX_2
            h = (h ^ (h >> np.uint64(31))) + key
    return h


def uniform(rows_N: NDArray[np.int64], *parts: int | str) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each row, (N,) float64."""
    return (hash_rows(rows_N, *parts) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def shuffled(rows_N: NDArray[np.int64], *parts: int | str) -> NDArray[np.int64]:
    """Return the rows in an order that depends only on the *set* of rows and the key."""
    ordered_N = np.sort(rows_N)
    return ordered_N[np.argsort(hash_rows(ordered_N, *parts), kind="stable")]


def draw(rows_N: NDArray[np.int64], count: int, *parts: int | str) -> NDArray[np.int64]:
    """Draw `count` rows uniformly without replacement; ascending. Ties of the hash go by row.

    Raises:
        ValueError: If `count` is not between 0 and N.
    """
    if not 0 <= count <= len(rows_N):
        raise ValueError(f"cannot draw {count} of {len(rows_N)} rows without replacement")
    if count == len(rows_N):
        return np.sort(rows_N)
    h_N = hash_rows(rows_N, *parts)
    if count == 0:
        return rows_N[:0]
    cut = np.partition(h_N, count - 1)[count - 1]
    below = rows_N[h_N < cut]
    tied = np.sort(rows_N[h_N == cut])[: count - len(below)]
    return np.sort(np.concatenate([below, tied]))


def below_fraction(
    rows_N: NDArray[np.int64], fraction: float, *parts: int | str
) -> NDArray[np.bool_]:
    """Mark each row with probability `fraction`, each by itself (so new rows change no old mark).

    Returns:
        (N,) bool.
    """
    if fraction >= 1:
        return np.ones(len(rows_N), dtype=bool)
    return hash_rows(rows_N, *parts) < np.uint64(int(fraction * 2.0**64))
