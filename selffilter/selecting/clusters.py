"""Clusters of a pool by its embeddings: spherical k-means, fitted on a sample, for all rows.

What is fitted: unit-norm centroids c_k that make ``Σ_i max_k x_iᵀ c_k`` large over the sample, by
Lloyd's iterations as faiss does them (a centroid that no row is nearest to takes over half of a
large one's rows). Then every row of the pool belongs to the centroid that it has the highest cosine
with.

Rows are numbered 0 to N − 1; features come from a `FeaturesOf`, so that they need not be in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selffilter.errors import UserError
from selffilter.randomness import key_from
from selffilter.selecting.cosines import Features, FeaturesOf, nearest, streamed, usable
from selffilter.selecting.diverse import draw_rows
from selffilter.selecting.groups import UNKNOWN, Groups
from selffilter.selecting.scratch import Scratch, chunks

SAMPLE_A_CLUSTER = 256
"""Rows to fit on, for each cluster: with more of them the centroids hardly move (faiss's own
default)."""


@dataclass(frozen=True)
class Clusters:
    """Which cluster each row is in; the largest cluster is number 0.

    Attributes:
        codes_N: (N,) int32; -1 for rows without features.
        centroids_KD: (K, D) float32, unit-norm. A cluster may be empty: those come last.
    """

    codes_N: NDArray[np.int32]
    centroids_KD: Features

    @property
    def sizes_K(self) -> NDArray[np.int64]:
        """Rows of each cluster, (K,) int64, descending."""
        return _sizes(self.codes_N, len(self.centroids_KD))

    def groups(self) -> Groups:
        """Return the clusters as a grouping of the rows; groups are named by their numbers."""
        return Groups("cluster", self.codes_N, [str(k) for k in range(len(self.centroids_KD))])


def cluster(
    features_of: FeaturesOf,
    among_N: NDArray[np.bool_],
    clusters: int,
    seed: int,
    *,
    sample: int | None = None,
    scratch: Scratch | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Clusters:
    """Fit clusters on a sample of some rows, and find the cluster of each of them.

    Args:
        features_of: Asked for a sample, then for all rows in ascending order, some at a time.
        among_N: Which rows to look at, (N,) bool. Those that have no features (NaN), and those that
            are not looked at, are of no cluster.
        clusters: K.
        seed: Of the sample and of the fit.
        sample: Rows to fit on, 4·D bytes each in memory; None: `SAMPLE_A_CLUSTER` times K. All of
            them if there are no more.
        scratch: Where arrays of a row each come from.
        progress: Called with the number of rows just assigned.

    Returns:
        The same for the same arguments, whatever the number of threads.

    Raises:
        UserError: If faiss is not installed, or fewer rows of the sample than K have features.
    """
    wanted = SAMPLE_A_CLUSTER * clusters if sample is None else sample
    count = min(wanted, int(np.count_nonzero(among_N)))
    drawn_N = draw_rows(among_N, count, seed, "clusters", scratch=scratch)
    centroids_KD = fit_centroids(_gathered(features_of, drawn_N, count), clusters, seed)
    del drawn_N
    return largest_first(assign(features_of, among_N, centroids_KD, progress), centroids_KD)


def fit_centroids(
    features_MD: Features, clusters: int, seed: int, *, iterations: int = 25
) -> Features:
    """Fit the centroids of spherical k-means with faiss.

    Seen with faiss-cpu 1.15.1: the same features and seed give the same bytes, with one thread and
    with several, since a thread sums up whole centroids.

    Args:
        features_MD: The sample, unit-norm, float32; rows of NaN are left out.
        clusters: K.
        seed: Which of the rows the centroids are at first.
        iterations: Of Lloyd.

    Returns:
        (K, D) float32, unit-norm.

    Raises:
        UserError: If faiss is not installed, or fewer rows than K have features.
        ValueError: If K or the iterations are not positive.
    """
    if clusters < 1 or iterations < 1:
        raise ValueError(f"cannot fit {clusters} clusters in {iterations} iterations")
    faiss = require_faiss()
    usable_M = usable(features_MD)
    if not usable_M.all():
        features_MD = features_MD[usable_M]
    if len(features_MD) < clusters:
        raise UserError(
            f"cannot fit {clusters:,} clusters to {len(features_MD):,} rows that have embeddings "
            f"(of {len(usable_M):,} in the sample): ask for at most {len(features_MD):,} clusters."
        )
    fit = faiss.Kmeans(
        features_MD.shape[1],
        clusters,
        spherical=True,
        niter=iterations,
        seed=key_from(seed, "k-means") % 2**31,
        # The sample is as the caller wants it: faiss is neither to complain of it nor to thin it.
        min_points_per_centroid=1,
        max_points_per_centroid=len(features_MD),
    )
    fit.train(np.ascontiguousarray(features_MD, np.float32))
    centroids_KD: Features = fit.centroids
    return centroids_KD


def assign(
    features_of: FeaturesOf,
    among_N: NDArray[np.bool_],
    centroids_KD: Features,
    progress: Callable[[int], None] = lambda _: None,
) -> NDArray[np.int32]:
    """Find the centroid that each row has the highest cosine with; ties go to the first.

    Costs 2·K·D operations a row, and memory for some thousand rows whatever N.

    Args:
        features_of: Asked for rows in ascending order, some at a time.
        among_N: Which rows to look at, (N,) bool.
        centroids_KD: Unit-norm, float32.
        progress: Called with the number of rows just looked at.

    Returns:
        (N,) int32; -1 for rows that have no features or are not looked at.
    """
    codes_N = np.full(len(among_N), UNKNOWN, np.int32)
    for rows_n, features_nD in streamed(features_of, among_N, progress):
        codes_N[rows_n], _ = nearest(features_nD, centroids_KD)
    return codes_N


def largest_first(codes_N: NDArray[np.int32], centroids_KD: Features) -> Clusters:
    """Number clusters by their size, the largest 0; of equal ones the first stays first.

    Args:
        codes_N: Written to.
        centroids_KD: As `codes_N` counts them.
    """
    order_K = np.argsort(-_sizes(codes_N, len(centroids_KD)), kind="stable")
    number_K = np.empty(len(order_K) + 1, np.int32)
    number_K[order_K] = np.arange(len(order_K))
    number_K[UNKNOWN] = UNKNOWN
    for part in chunks(len(codes_N)):
        codes_N[part] = number_K[codes_N[part]]
    return Clusters(codes_N, centroids_KD[order_K])


def _gathered(features_of: FeaturesOf, drawn_N: NDArray[np.bool_], count: int) -> Features:
    """Return the features of some rows; a part at a time, as asking takes memory of its own."""
    features_MD: Features = np.empty((0, 1), np.float32)
    at = 0
    for _, features_nD in streamed(features_of, drawn_N):
        if not at:
            features_MD = np.empty((count, features_nD.shape[1]), np.float32)
        features_MD[at : at + len(features_nD)] = features_nD
        at += len(features_nD)
    return features_MD


def _sizes(codes_N: NDArray[np.int32], clusters: int) -> NDArray[np.int64]:
    sizes_K = np.zeros(clusters + 1, np.int64)
    for part in chunks(len(codes_N)):
        sizes_K += np.bincount(codes_N[part] + 1, minlength=clusters + 1)
    return sizes_K[1:]


def require_faiss() -> Any:
    """Return faiss, which is an extra.

    Raises:
        UserError: If it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise UserError(
            "clusters need faiss, which is not installed: pip install 'selffilter[clusters]'."
        ) from error
    return faiss
