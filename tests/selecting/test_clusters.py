"""Clusters of rows by their features: fitted on a sample, for every row, the same each time."""

import sys

import faiss
import numpy as np
import pytest

from selffilter.errors import UserError
from selffilter.randomness import draw
from selffilter.selecting import cosines
from selffilter.selecting.clusters import assign, cluster, fit_centroids, largest_first

SIZES = [400, 250, 150, 100, 60, 40]
KIND = np.repeat(np.arange(len(SIZES)), SIZES)


@pytest.fixture(scope="module")
def features():
    """Six groups of 400 to 40 rows, far from each other."""
    rng = np.random.default_rng(0)
    centres = 4 * np.linalg.qr(rng.standard_normal((16, 16)))[0][: len(SIZES)]
    rows = centres[KIND] + 0.3 * rng.standard_normal((len(KIND), 16))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def every(features):
    return np.ones(len(features), bool)


def made(features, clusters, seed=0, **how):
    return cluster(lambda rows: features[rows], every(features), clusters, seed, **how)


def test_rows_that_belong_together_are_found_and_the_largest_cluster_is_the_first(features):
    # Lloyd may begin with two centroids in one group: some of a few beginnings find all six.
    found = [made(features, 6, seed) for seed in range(8)]
    best = max(found, key=lambda f: (features * f.centroids_KD[f.codes_N]).sum())
    np.testing.assert_array_equal(best.codes_N, KIND)
    np.testing.assert_array_equal(best.sizes_K, SIZES)
    for clusters in found:
        assert (np.diff(clusters.sizes_K) <= 0).all() and clusters.sizes_K.sum() == len(KIND)


def test_centroids_are_unit_norm_and_each_row_is_with_the_one_it_is_nearest_to(features):
    found = made(features, 30)
    np.testing.assert_allclose(np.linalg.norm(found.centroids_KD, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(found.codes_N, (features @ found.centroids_KD.T).argmax(axis=1))
    assert found.codes_N.dtype == np.int32 and found.centroids_KD.dtype == np.float32


def test_rows_without_features_and_those_left_out_are_of_no_cluster(features):
    features = features.copy()
    features[[3, 700]] = np.nan
    among = every(features)
    among[[5, 900]] = False
    asked = []

    def features_of(rows):
        asked.append(rows)
        return features[rows]

    found = cluster(features_of, among, 6, 0)
    assert found.codes_N[[3, 700, 5, 900]].tolist() == [-1] * 4
    assert (np.delete(found.codes_N, [3, 700, 5, 900]) >= 0).all()
    assert found.sizes_K.sum() == len(features) - 4
    assert not np.isin([5, 900], np.concatenate(asked)).any()


def test_the_fit_sees_a_seeded_sample_of_the_rows(features):
    asked = []

    def features_of(rows):
        asked.append(rows)
        return features[rows]

    among = every(features)
    among[:10] = False
    found = cluster(features_of, among, 6, 7, sample=200)
    np.testing.assert_array_equal(asked[0], draw(np.flatnonzero(among), 200, 7, "clusters"))
    fitted = fit_centroids(features[asked[0]], 6, 7)
    assert {row.tobytes() for row in fitted} == {row.tobytes() for row in found.centroids_KD}
    cluster(features_of, among, 3, 7)
    assert len(asked[-2]) == 3 * 256  # by default 256 rows a cluster
    assert (found.codes_N[10:] >= 0).all()


def test_the_same_seed_gives_the_same_bytes_with_one_thread_or_more_and_in_any_blocks(
    features, monkeypatch
):
    def bytes_of(seed=0):
        found = made(features, 25, seed)
        return found.codes_N.tobytes() + found.centroids_KD.tobytes()

    threads = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(1)
        once = bytes_of()
        faiss.omp_set_num_threads(2)
        assert bytes_of() == once
    finally:
        faiss.omp_set_num_threads(threads)
    monkeypatch.setattr(cosines, "_ROWS_AT_ONCE", 17)
    monkeypatch.setattr(cosines, "_COSINES_AT_ONCE", 90)
    assert bytes_of() == once
    assert bytes_of(seed=1) != once


def test_images_that_are_all_the_same_are_one_cluster_and_the_others_are_empty(features):
    same = np.tile(features[:1], (300, 1))
    found = made(same, 4)
    assert found.sizes_K.tolist() == [300, 0, 0, 0]
    assert np.isfinite(found.centroids_KD).all()


def test_as_many_clusters_as_rows_is_a_cluster_each(features):
    assert made(features[:50], 50).sizes_K.tolist() == [1] * 50


def test_more_clusters_than_rows_with_features_are_refused(features):
    few = features[:20].copy()
    few[:5] = np.nan
    with pytest.raises(
        UserError, match=r"16 clusters to 15 rows .*of 20 in the sample.* at most 15"
    ):
        made(few, 16)
    with pytest.raises(UserError, match="to 0 rows"):
        cluster(lambda rows: few[rows], np.zeros(20, bool), 2, 0)
    with pytest.raises(ValueError, match="0 clusters"):
        fit_centroids(few, 0, 0)


def test_of_equally_large_clusters_the_first_stays_first():
    codes = np.array([2, 1, -1, 1, 2, 0], np.int32)
    found = largest_first(codes, np.eye(4, dtype=np.float32))
    assert found.codes_N.tolist() == [1, 0, -1, 0, 1, 2]
    np.testing.assert_array_equal(found.centroids_KD, np.eye(4)[[1, 2, 0, 3]])
    assert found.sizes_K.tolist() == [2, 2, 1, 0]

    codes = np.concatenate([np.arange(500), np.arange(0, 500, 3)]).astype(np.int32)
    found = largest_first(codes, np.arange(500, dtype=np.float32)[:, None])
    in_order = [*range(0, 500, 3), *(k for k in range(500) if k % 3)]
    assert found.centroids_KD[:, 0].tolist() == in_order


def test_assigning_needs_no_fit_and_tells_of_its_progress(features):
    done = []
    centroids = features[[0, 500, 700]]
    codes = assign(lambda rows: features[rows], every(features), centroids, done.append)
    assert codes[[0, 500, 700]].tolist() == [0, 1, 2]
    assert sum(done) == len(features)


def test_clusters_are_a_grouping(features):
    groups = made(features, 6).groups()
    assert groups.name == "cluster" and groups.names == ["0", "1", "2", "3", "4", "5"]
    assert groups.counts()[:6].tolist() == made(features, 6).sizes_K.tolist()


def test_without_faiss_it_is_said_what_to_install(features, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UserError, match=r"selffilter\[clusters\]"):
        made(features, 2)
