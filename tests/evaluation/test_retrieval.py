import numpy as np
import pytest
import torch

from selffilter.evaluation.retrieval import retrieval_metrics


def unit(rng, *shape):
    return torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=shape)).float(), dim=-1)


def by_hand(images, texts, owner):
    """Sort the whole float64 matrix; of equal ones the right answers come last."""
    similarity = (texts.double() @ images.double().T).float().double().numpy()
    owner = owner.numpy()
    found = {}
    for k in (1, 5, 10):
        hits = []
        for t, row in enumerate(similarity):
            order = sorted(range(len(row)), key=lambda i: (-row[i], i == owner[t]))
            hits.append(owner[t] in order[:k])
        found[f"image_retrieval_recall@{k}"] = np.mean(hits)
        hits = []
        for i, column in enumerate(similarity.T):
            order = sorted(range(len(column)), key=lambda t: (-column[t], owner[t] == i))
            hits.append(bool(set(np.flatnonzero(owner == i)) & set(order[:k])))
        found[f"text_retrieval_recall@{k}"] = np.mean(hits)
    one = (found["image_retrieval_recall@1"], found["text_retrieval_recall@1"])
    found["mean_recall@1"] = np.mean(one)
    return found


@pytest.fixture(scope="module")
def features():
    """Forty images with one to four captions near them, some images and captions twice."""
    rng = np.random.default_rng(0)
    images = unit(rng, 40, 6)
    images[7] = images[3]
    captions = torch.from_numpy(rng.integers(1, 5, 40))
    owner = torch.arange(40).repeat_interleave(captions)
    texts = torch.nn.functional.normalize(images[owner] + 0.6 * unit(rng, len(owner), 6), dim=-1)
    texts[20] = texts[50]
    return images, texts, owner


@pytest.mark.parametrize("block_entries", [1, 100, 1 << 25])
def test_it_is_what_sorting_the_whole_matrix_gives(features, block_entries):
    found = retrieval_metrics(*features, block_entries)
    assert found == pytest.approx(by_hand(*features), abs=1e-12)
    assert 0 < found["image_retrieval_recall@1"] < found["text_retrieval_recall@5"] < 1


def test_one_caption_of_several_is_enough_for_its_image_and_each_counts_for_itself():
    images = torch.eye(3)
    texts = torch.stack([images[0], images[1], images[1], images[2]])
    owner = torch.tensor([0, 0, 1, 2])  # the second caption of image 0 looks like image 1
    found = retrieval_metrics(images, texts, owner)
    assert found["image_retrieval_recall@1"] == 3 / 4
    # Image 1 has a caption of image 0 as near as its own: a tie, which counts against it.
    assert found["text_retrieval_recall@1"] == 2 / 3


def test_own_captions_do_not_push_each_other_out():
    images, owner = torch.eye(2), torch.tensor([0] * 12 + [1])
    found = retrieval_metrics(images, images[owner], owner)
    assert set(found.values()) == {1.0}


def test_a_model_to_which_all_is_the_same_finds_nothing():
    same = torch.nn.functional.normalize(torch.ones(30, 7), dim=-1)
    found = retrieval_metrics(same, same, torch.arange(30), block_entries=70)
    assert set(found.values()) == {0.0}


def test_what_is_not_a_number_is_no_hit():
    nothing = torch.full((30, 7), torch.nan)
    assert set(retrieval_metrics(nothing, nothing, torch.arange(30)).values()) == {0.0}
