"""Kept embeddings, by row of the pool; clusters of them are made once."""

import numpy as np
import pytest
import torch

from selffilter.config import Config
from selffilter.errors import UserError
from selffilter.scoring.embeddings.folder import EmbeddingWriter, open_folder
from selffilter.selecting.clusters import cluster
from selffilter.stages.embedded import RowFeatures, round_features, stored_clusters
from selffilter.store import RunStore

ROWS = 60


def image_features():
    features = torch.randn(ROWS, 8, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(features, dim=1)


def write(folder, rows_of_shards, image=None, made_by="model 1"):
    """Write embeddings of some rows, a list a shard."""
    image = image_features() if image is None else image
    writer = EmbeddingWriter(folder, 8, len(rows_of_shards), {"made_by": made_by})
    for shard, rows in enumerate(rows_of_shards):
        rows = np.array(rows, np.int64)
        uids = np.stack([rows, rows], axis=1).astype(np.uint64)
        writer.write(shard, rows, uids, [(image[rows], image[rows])])
    return open_folder(folder)


def close(found, rows):
    np.testing.assert_allclose(found, image_features()[rows], atol=1e-3)


def test_rows_are_asked_for_in_any_order(tmp_path):
    features = RowFeatures(write(tmp_path, [range(25), range(25, 60)]), ROWS)
    rows = np.array([59, 0, 30, 24, 25, 0])
    close(features(rows), rows)
    assert features.among_N.all()
    np.testing.assert_allclose(np.linalg.norm(features(rows), axis=1), 1, atol=1e-6)


def test_rows_without_embeddings_have_no_features(tmp_path):
    image = image_features()
    image[40] = torch.nan
    features = RowFeatures(write(tmp_path, [range(3, 20), range(40, 50)], image), ROWS)
    assert np.flatnonzero(features.among_N).tolist() == [*range(3, 20), *range(40, 50)]
    found = features(np.array([49, 2, 19, 20, 59, 40, 3]))
    close(found[[0, 2, 6]], [49, 19, 3])
    assert np.isnan(found[[1, 3, 4, 5]]).all()


def test_places_may_be_of_rows_in_any_order(tmp_path):
    embeddings = write(tmp_path, [range(4), range(4, 6)])
    features = RowFeatures(embeddings, ROWS, np.array([50, 7, 20, 8, 0, 30]))
    found = features(np.array([0, 7, 8, 9, 50]))
    close(found[[0, 1, 2, 4]], [4, 1, 3, 0])
    assert np.isnan(found[3]).all()


@pytest.mark.parametrize("rows", [[0, 1, 60], [-1, 0, 1], [0, 5, 5], [5, 0, 5]])
def test_embeddings_of_other_rows_are_refused(tmp_path, rows):
    with pytest.raises(UserError, match="another pool"):
        RowFeatures(write(tmp_path, [range(3)]), ROWS, np.array(rows))


def test_a_round_that_kept_no_embeddings_says_what_to_set(tmp_path):
    store = RunStore(tmp_path)
    with pytest.raises(UserError, match=r"round 1 .* score.keep_embeddings=true"):
        round_features(Config(), store, 1, ROWS)
    write(store.stage(1, "score") / "embeddings", [range(ROWS)])
    close(round_features(Config(), store, 1, ROWS)(np.arange(ROWS)), np.arange(ROWS))


def test_clusters_are_those_of_the_embeddings_and_are_made_once(tmp_path):
    features = RowFeatures(write(tmp_path / "embeddings", [range(30), range(35, 60)]), ROWS)
    done = []
    made = stored_clusters(tmp_path / "selection", features, 5, 0, progress=done.append)
    expected = cluster(features, features.among_N, 5, 0)
    np.testing.assert_array_equal(made.codes_N, expected.codes_N)
    np.testing.assert_array_equal(made.centroids_KD, expected.centroids_KD)
    assert made.codes_N[30:35].tolist() == [-1] * 5
    assert sum(done) == 55

    again = stored_clusters(tmp_path / "selection", features, 5, 0, progress=done.append)
    assert sum(done) == 55
    np.testing.assert_array_equal(again.codes_N, made.codes_N)
    np.testing.assert_array_equal(again.centroids_KD, made.centroids_KD)
    on_disk = np.load(tmp_path / "selection" / "clusters.npy")
    assert on_disk.dtype == np.int32 and on_disk.shape == (ROWS,)


def test_clusters_of_other_settings_or_embeddings_are_made_anew(tmp_path):
    features = RowFeatures(write(tmp_path / "first", [range(ROWS)]), ROWS)
    folder = tmp_path / "selection"

    def read(features, clusters, seed):
        done = []
        found = stored_clusters(folder, features, clusters, seed, progress=done.append)
        return bool(done), len(found.centroids_KD)

    assert read(features, 5, 0) == (True, 5)
    assert read(features, 6, 0) == (True, 6)
    assert read(features, 6, 1) == (True, 6)
    assert read(features, 6, 1) == (False, 6)
    other = RowFeatures(write(tmp_path / "second", [range(ROWS)], made_by="model 2"), ROWS)
    assert read(other, 6, 1) == (True, 6)


def test_what_was_cut_off_between_its_two_files_is_made_anew(tmp_path):
    features = RowFeatures(write(tmp_path / "embeddings", [range(ROWS)]), ROWS)
    whole = stored_clusters(tmp_path, features, 5, 0)
    (tmp_path / "clusters.npy").unlink()
    again = stored_clusters(tmp_path, features, 5, 0)
    np.testing.assert_array_equal(again.codes_N, whole.codes_N)
    assert (tmp_path / "clusters.npy").exists()
