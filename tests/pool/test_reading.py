import random
from pathlib import Path

import numpy as np
import pytest
import torch

from selffilter.errors import StoreGone
from selffilter.pool.captions import MAX_MEMBER_BYTES
from selffilter.pool.failures import Failure
from selffilter.pool.index import Pool, build_index
from selffilter.pool.reading import BatchRequest, PoolDataset, loader_over


def to_tensor(image):
    """Return 10 x 12 pixels in [0, 1]."""
    pixels = np.array(image.resize((12, 10)), dtype=np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)


def with_noise(image):
    return to_tensor(image) + torch.rand(3, 10, 12) + random.random()


def lengths(captions):
    return torch.tensor([[len(c), sum(map(ord, c))] for c in captions])


def dataset(pool, transform=to_tensor, seed=0):
    return PoolDataset(pool, transform, lengths, max_pixels=1000, seed=seed)


def request(*rows, step=None):
    return BatchRequest(np.array(rows, dtype=np.int64), step)


@pytest.fixture
def flawed_pool(make_tar, picture, tmp_path):
    """Rows 1 to 5 cannot be used, each for a reason of its own; 0 and 6 can."""
    good, text = picture(0), b"fine"
    samples = [
        {"png": good, "txt": text},
        {"png": b"no image", "txt": text},
        {"png": picture(0, (40, 40)), "txt": text},
        {"png": good, "txt": b" "},
        {"png": good},
        {"txt": text},
        {"png": good, "txt": text},
    ]
    make_tar(tmp_path / "p" / "0.tar", [(str(i), s) for i, s in enumerate(samples)])
    return Pool(tmp_path / "index", build_index([str(tmp_path / "p")], tmp_path / "index"))


def test_a_batch_has_the_rows_in_the_order_asked_for(tiny_pool, picture):
    import io

    from PIL import Image

    batch = dataset(tiny_pool)[request(6, 0, 5)]
    assert batch["row"].tolist() == [6, 0, 5]
    assert batch["valid"].tolist() == [True] * 3
    assert batch["failure"].tolist() == [0] * 3
    assert torch.equal(batch["text"], lengths(["caption 6", "caption 0", "caption 5"]))
    for image, row in zip(batch["image"], (6, 0, 5), strict=True):
        assert torch.equal(image, to_tensor(Image.open(io.BytesIO(picture(row)))))
    assert batch["image"].dtype == torch.float32


def test_a_row_that_cannot_be_used_keeps_its_slot_with_its_reason(flawed_pool):
    batch = dataset(flawed_pool)[request(0, 1, 2, 3, 4, 5, 6)]
    assert batch["row"].tolist() == list(range(7))
    assert batch["valid"].tolist() == [True, False, False, False, False, False, True]
    assert [Failure(f).name for f in batch["failure"].tolist()] == [
        "none", "image_unreadable", "image_too_large", "caption_empty", "missing_caption",
        "missing_image", "none",
    ]  # fmt: skip
    assert not batch["image"][1:6].any()
    assert torch.equal(batch["image"][0], batch["image"][6])
    assert batch["image"][0].any()


def test_a_batch_may_have_no_usable_row_at_all(flawed_pool):
    batch = dataset(flawed_pool)[request(1, 2)]
    assert batch["image"].shape == (2, 3, 10, 12)
    assert not batch["valid"].any()


def test_an_empty_slot_is_row_minus_one_and_no_failure(tiny_pool):
    batch = dataset(tiny_pool)[request(2, -1, -1)]
    assert batch["row"].tolist() == [2, -1, -1]
    assert batch["valid"].tolist() == [True, False, False]
    assert batch["failure"].tolist() == [0, 0, 0]
    assert not batch["image"][1:].any()


def test_augmentation_depends_on_seed_step_and_row_alone(tiny_pool):
    def images(*rows, step=3, seed=0):
        return dataset(tiny_pool, with_noise, seed)[request(*rows, step=step)]["image"]

    torch.manual_seed(1)
    random.seed(1)
    once = images(0, 1, 2)
    torch.manual_seed(2)
    random.seed(2)
    assert torch.equal(images(2, 0)[[1, 0]], once[[0, 2]])
    for other in (images(0, 1, 2, step=4), images(0, 1, 2, seed=1)):
        assert all(not torch.equal(a, b) for a, b in zip(other, once, strict=True))
    # What is added to two pictures in one step differs too.
    clean = dataset(tiny_pool)[request(0, 1)]["image"]
    assert not torch.allclose(once[0] - clean[0], once[1] - clean[1], atol=0.1)


def test_reading_leaves_the_generators_of_the_process_alone(tiny_pool):
    torch.manual_seed(5)
    random.seed(5)
    states = torch.random.get_rng_state(), random.getstate()
    dataset(tiny_pool, with_noise)[request(0, 1, step=3)]
    assert torch.equal(torch.random.get_rng_state(), states[0])
    assert random.getstate() == states[1]


def test_workers_change_nothing(flawed_pool):
    requests = [request(0, 6, step=s) for s in range(4)] + [request(1, -1, 6, step=9)]
    data = dataset(flawed_pool, with_noise)
    data[requests[0]]  # a file is open when the workers take their copies
    alone, several = (list(loader_over(data, requests, workers)) for workers in (0, 2))
    assert len(alone) == len(several) == 5
    for one, other in zip(alone, several, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(alone[0]["image"], alone[1]["image"])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shard_that_cannot_be_read_stops_the_run_in_its_own_words(tiny_pool, workers):
    Path(tiny_pool.location(0)).unlink()
    with pytest.raises(StoreGone) as caught:
        list(loader_over(dataset(tiny_pool), [request(4), request(0)], workers))
    assert "00000.tar" in str(caught.value)
    assert "Traceback" not in str(caught.value)


@pytest.fixture
def talkative_pool(make_tar, picture, tmp_path):
    """Rows of 1, 3 and no captions, in the text and in the json."""
    samples = [
        ("0", {"png": picture(0), "txt": b"one"}),
        ("1", {"png": picture(1), "txt": b"one\n two \n\n", "json": b'{"alt": ["three"]}'}),
        ("2", {"png": picture(2), "txt": b"\n", "json": b'{"alt": []}'}),
    ]
    make_tar(tmp_path / "p" / "0.tar", samples)
    key = "txt:lines,json:alt"
    version = build_index([str(tmp_path / "p")], tmp_path / "index", caption_key=key)
    return Pool(tmp_path / "index", version, key)


def spoken(batch):
    texts = lengths(["one", "two", "three", ""]).tolist()
    return [("one", "two", "three", "")[texts.index(text)] for text in batch["text"].tolist()]


def test_scoring_meets_every_caption_of_a_row(talkative_pool):
    data = PoolDataset(talkative_pool, to_tensor, lengths, max_pixels=1000, every_caption=True)
    batch = data[request(1, 2, 0, -1)]
    assert spoken(batch) == ["one", "two", "three", "", "one", ""]
    assert batch["caption_of"].tolist() == [0, 0, 0, 1, 2, 3]
    assert batch["valid"].tolist() == [True, False, True, False]


def test_training_meets_one_caption_drawn_by_seed_step_and_row(talkative_pool):
    data = dataset(talkative_pool)
    drawn = [spoken(data[request(1, 0, step=step)]) for step in range(60)]
    assert {first for first, _ in drawn} == {"one", "two", "three"}
    assert {second for _, second in drawn} == {"one"}
    assert drawn == [spoken(data[request(1, 0, step=step)]) for step in range(60)]
    batch = data[request(1, 0)]
    assert spoken(batch) == ["one", "one"]
    assert batch["caption_of"].tolist() == [0, 1]


def test_a_batch_says_what_reading_it_has_cost(tiny_pool, picture):
    data = dataset(tiny_pool)
    for row in (0, 5):
        wanted, packed, read, requests = data[request(row)]["reads"].tolist()
        assert wanted == len(picture(row)) + len(b"caption 0")
        assert (packed, requests) == (0, 1)
        assert wanted <= read


def test_what_is_too_large_is_not_read_and_says_so(make_tar, picture, tmp_path):
    good, large = picture(0), picture(1, (60, 60))
    samples = [
        ("0", {"png": good, "txt": b"fine"}),
        ("1", {"png": large, "txt": b"fine"}),
        ("2", {"png": good, "txt": b"x" * (MAX_MEMBER_BYTES + 1)}),
        ("3", {"txt": b"no image"}),
    ]
    make_tar(tmp_path / "p" / "0.tar", samples)
    pool = Pool(tmp_path / "index", build_index([str(tmp_path / "p")], tmp_path / "index"))
    bound = len(good) + 1
    assert len(large) > bound
    data = PoolDataset(pool, to_tensor, lengths, max_pixels=10**6, max_image_bytes=bound)
    batch = data[request(0, 1, 2, 3)]
    assert [Failure(f).name for f in batch["failure"].tolist()] == [
        "none", "image_too_large", "caption_unreadable", "missing_image",
    ]  # fmt: skip
    assert int(batch["reads"][2]) < 2 * bound + 4096
