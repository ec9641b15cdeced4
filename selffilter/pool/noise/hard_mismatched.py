"""Captions exchanged between rows whose captions are alike: wrong, but plausible.

Alike means sharing rare words, or standing in the same given cluster. Two rows may change
captions only if each caption says something that the other does not (no "dog" for "a black dog"),
their labels differ where both are known, and neither caption stands anywhere in the pool at the
other's label. Labels do not count where they are the clusters themselves.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from selffilter.pool.noise.neighbours import ClusterNeighbours, Neighbours, WordNeighbours
from selffilter.pool.noise.planted import Part
from selffilter.pool.noise.texts import Texts
from selffilter.randomness import shuffled

_TRIOS_TRIED = 100


def mismatch_hard(texts: Texts, free_M: NDArray[np.int64], count: int, seed: int) -> Part:
    """Let pairs of similar rows exchange their captions.

    Rows are taken in random order, each with the most similar row that is still free and may
    change with it. For an odd `count` one pair becomes a ring of three.

    Args:
        texts: The pool; with clusters, partners come from the same cluster.
        free_M: (M,) int64, rows that noise may be planted in.
        count: How many; fewer if not enough rows have a partner.
        seed: Same seed, same noise.
    """
    free_N = np.zeros(len(texts), dtype=bool)
    free_N[free_M] = True
    kind = WordNeighbours if texts.clusters_N is None else ClusterNeighbours
    neighbours: Neighbours = kind(texts, free_M, lambda row: bool(free_N[row]), seed)
    rings: list[list[int]] = []
    for row in shuffled(free_M, seed, "hard").tolist():
        if 2 * len(rings) + 2 > count:
            break
        if not free_N[row]:
            continue
        partner = _first(neighbours, texts, [row])
        if partner is not None:
            rings.append([row, partner])
            free_N[[row, partner]] = False
    if 2 * len(rings) == count - 1:
        for ring in rings[-_TRIOS_TRIED:]:
            third = _first(neighbours, texts, ring)
            if third is not None:
                ring.append(third)
                break
    source = {ring[i]: ring[(i + 1) % len(ring)] for ring in rings for i in range(len(ring))}
    rows_n = np.array(sorted(source), dtype=np.int64)
    source_n = np.array([source[row] for row in rows_n.tolist()], dtype=np.int64)
    return Part(rows_n, [texts.captions[giver] for giver in source_n], source_n)


def _first(neighbours: Neighbours, texts: Texts, ring: list[int]) -> int | None:
    """Return the most similar row that is a neighbour of all of a ring and may change with all."""
    alike_to_all = [set(neighbours.of(one)) for one in ring[1:]]
    for other in neighbours.of(ring[0]):
        if (
            other not in ring
            and all(other in alike for alike in alike_to_all)
            and all(_may_change(texts, other, one) for one in ring)
        ):
            return other
    return None


def _may_change(texts: Texts, row: int, other: int) -> bool:
    if texts.says_the_same(row, other):
        return False
    label = texts.labels_N[row]
    return texts.labels_are_clusters or not (
        (label and label == texts.labels_N[other])
        or texts.stands_for(row, other)
        or texts.stands_for(other, row)
    )
