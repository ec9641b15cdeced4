"""All images of evaluation sets, hashed or encoded, and counted through."""

import numpy as np
import pytest
import torch

from selffilter.clip.model import encode_image
from selffilter.errors import UserError
from selffilter.evaluation.evaluate import EvaluationSettings
from selffilter.evaluation.images import image_batches
from selffilter.evaluation.sets import EvaluationSet, open_sets
from selffilter.pool.decoding import decode_image
from selffilter.pool.row_facts import image_hash
from selffilter.stages.evaluation_images import evaluation_features, evaluation_hashes

SETTINGS = EvaluationSettings(batch_size=7)


def hashes_of(files):
    return np.array([image_hash(data) for data in files], np.int64).view(np.uint64)


@pytest.fixture
def sets(drawings_set, caption_set):
    """Forty drawings each; the first set has two broken samples, one that lacks its class."""
    return open_sets([str(drawings_set), str(caption_set)])


@pytest.fixture
def files(drawings):
    """The image files of the first set: one is broken, one of a sample that lacks its class."""
    images = [image for image, _ in drawings]
    return [*images[:3], b"broken", images[0], *images[3:]]


def test_every_image_file_is_hashed_whatever_is_said_of_it(sets, files, drawings, tmp_path):
    found, numbering = evaluation_hashes(sets, tmp_path, SETTINGS)
    every = [*files, *(image for image, _ in drawings)]
    np.testing.assert_array_equal(found, hashes_of(every))
    assert len(every) == 42 + 40
    assert numbering.name(0) == "drawings image 0"
    assert numbering.name(41) == "drawings image 41"
    assert numbering.name(42) == "captions image 0"
    assert numbering.name(81) == "captions image 39"


def test_a_set_is_hashed_once(sets, drawings_set, tmp_path):
    class Counting:
        count = 0

        def advance(self, count, note=""):
            self.count += count

    bar = Counting()
    first, _ = evaluation_hashes(sets, tmp_path, SETTINGS, bar)
    again, _ = evaluation_hashes(sets[:1], tmp_path, SETTINGS, bar)
    assert bar.count == len(first) == 82
    np.testing.assert_array_equal(again, first[:42])


def test_features_have_the_numbers_of_the_hashes(sets, files, model, recipe, tmp_path):
    features, numbering = evaluation_features(model, recipe, sets, SETTINGS)
    _, of_hashes = evaluation_hashes(sets, tmp_path, SETTINGS)
    assert numbering.names == of_hashes.names
    np.testing.assert_array_equal(numbering.ends_S, of_hashes.ends_S)
    assert features.dtype == np.float32 and len(features) == 82
    # The broken file alone has no features; the order is that of the files.
    assert np.flatnonzero(np.isnan(features).any(axis=1)).tolist() == [3]
    transform = recipe.transform()
    for place in (0, 4, 5, 41):
        image = transform(decode_image(files[place], 10**6))[None]
        np.testing.assert_allclose(features[place], encode_image(model, image)[0], atol=1e-5)


def test_of_a_sample_with_several_images_each_counts(
    write_set, association_sample, picture, tmp_path
):
    samples = [association_sample(0, 3, [0]), association_sample(1, 2, [1])]
    home = write_set(tmp_path / "pairs", samples, dataset_type=["association"])
    found, _ = evaluation_hashes([EvaluationSet(str(home))], tmp_path / "hashes", SETTINGS)
    seeds = [0, 1, 2, 100, 101]
    np.testing.assert_array_equal(found, hashes_of([picture(s, (20, 20)) for s in seeds]))


def test_without_a_transform_nothing_is_decoded(sets, files):
    batches = list(image_batches(sets[0], None, batch_size=9, workers=0, max_pixels=10**6))
    assert sum(len(batch.hashes_B) for batch in batches) == len(files)
    assert not any(batch.decoded_B.any() or len(batch.image) for batch in batches)


def test_looking_at_a_set_changes_nothing_that_is_random(sets, model, recipe):
    before = torch.random.get_rng_state()
    evaluation_features(model, recipe, sets, SETTINGS)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_broken_tar_is_named(drawings_set, tmp_path):
    tar = drawings_set / "test" / "1.tar"
    tar.write_bytes(tar.read_bytes()[:700])
    with pytest.raises(UserError, match=r"test/1\.tar is a broken tar"):
        evaluation_hashes([EvaluationSet(str(drawings_set))], tmp_path, SETTINGS)
