import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from selffilter.pool import reading
from selffilter.pool.failures import Failure
from selffilter.pool.index import Pool, build_index
from selffilter.pool.reading import BatchRequest, PoolDataset, RowReader, loader_over


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


def test_the_reader_gives_image_and_caption_of_any_row_in_any_order(tiny_pool, picture):
    reader = RowReader(tiny_pool)
    for row in (7, 0, 4, 3, 0):
        assert reader.read(row) == (picture(row), f"caption {row}".encode())


def test_the_reader_keeps_few_files_open(tiny_pool, monkeypatch):
    monkeypatch.setattr(reading, "_OPEN_FILES", 1)
    reader = RowReader(tiny_pool)
    before = len(os.listdir("/proc/self/fd"))
    for row in (0, 4, 7, 0, 4, 7):
        assert reader.read(row)[1] == f"caption {row}".encode()
        assert len(os.listdir("/proc/self/fd")) <= before + 1


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


def test_a_file_that_cannot_be_read_is_tried_again_and_then_stops_the_run(tiny_pool, monkeypatch):
    waits = []
    monkeypatch.setattr(reading.time, "sleep", waits.append)
    path = Path(tiny_pool.location(0))
    path.rename(path.with_suffix(".away"))
    with pytest.raises(OSError, match=r"00000\.tar cannot be read after 4 attempts"):
        dataset(tiny_pool)[request(0)]
    assert len(waits) == 3
    assert waits == sorted(waits)


def test_a_fault_that_passes_is_read_over(tiny_pool, monkeypatch):
    path = Path(tiny_pool.location(0))
    away = path.with_suffix(".away")
    path.rename(away)
    monkeypatch.setattr(reading.time, "sleep", lambda _: away.exists() and away.rename(path))
    assert dataset(tiny_pool)[request(0)]["valid"].tolist() == [True]


def test_a_tar_that_became_shorter_stops_the_run_and_is_no_bad_image(tiny_pool, monkeypatch):
    monkeypatch.setattr(reading.time, "sleep", lambda _: None)
    os.truncate(tiny_pool.location(0), 600)
    with pytest.raises(OSError, match="become shorter"):
        dataset(tiny_pool)[request(0)]
