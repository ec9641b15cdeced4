"""What is written down of rows while they are read: of tiny pools, as a batch and as columns."""

import hashlib
import json

import numpy as np
import pytest
import torch

from selffilter.pool.index import Pool, build_index
from selffilter.pool.reading import BatchRequest, PoolDataset, loader_over, padded_requests
from selffilter.pool.row_facts import facts_columns, facts_named, facts_of, image_hash
from selffilter.pool.script import Script
from selffilter.tables import FACTS

CAPTIONS = [
    [" a red box \n", "Красный ящик"],
    ["Красный ящик"],
    [],
    ["赤い箱", "a red box"],
    ["2024"],
]
"""Row 2 has none that can be used."""


@pytest.fixture
def pool(make_tar, picture, tmp_path):
    """Rows 1 and 4 share their picture; row 5 has none that can be decoded."""
    images = [picture(0), picture(1), picture(2), picture(3), picture(1), b"no image"]
    samples = [
        (str(row), {"png": image, "json": json.dumps({"c": texts}).encode()})
        for row, (image, texts) in enumerate(zip(images, [*CAPTIONS, ["fine"]], strict=True))
    ]
    make_tar(tmp_path / "p" / "0.tar", samples)
    version = build_index([str(tmp_path / "p")], tmp_path / "i", caption_key="json:c")
    return Pool(tmp_path / "i", version)


def dataset(pool, **more):
    def transform(image):
        return torch.zeros(3, 2, 2)

    def tokenize(captions):
        return torch.zeros(len(captions), 1, dtype=torch.int64)

    return PoolDataset(pool, transform, tokenize, max_pixels=1000, **more)


def columns_of(data, requests, workers=0):
    parts = [
        batch["facts"][batch["row"] >= 0].numpy() for batch in loader_over(data, requests, workers)
    ]
    return facts_columns(data.facts, np.concatenate(parts))


def test_the_facts_are_of_the_first_caption_and_of_the_image_file(pool, picture):
    data = dataset(pool, every_caption=True, hash_images=True)
    found = columns_of(data, [BatchRequest(np.array([5, 0, 1, -1, 2, 3, 4]))])
    assert list(found) == FACTS.names
    assert [column.dtype for column in found.values()] == [np.uint32, np.uint8, np.uint64]
    assert found["caption_chars"].tolist() == [0, 9, 12, 0, 3, 4]
    assert [Script(code).name for code in found["script"]] == [
        "none", "latin", "cyrillic", "none", "kana", "none",
    ]  # fmt: skip
    hashes = found["image_hash"]
    assert hashes[[0, 3]].tolist() == [0, 0]  # what cannot be used has none
    assert hashes[2] == hashes[5] and len(set(hashes.tolist())) == 4
    digest = hashlib.blake2b(picture(0), digest_size=8).digest()
    assert hashes[1] == int.from_bytes(digest, "little")


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (2, 0), (4, 2), (16, 0)])
def test_they_depend_neither_on_the_batch_nor_on_the_worker(pool, batch_size, workers):
    data = dataset(pool, every_caption=True, hash_images=True)
    rows = pool.shard_rows(0)
    expected = columns_of(data, [BatchRequest(rows)])
    found = columns_of(data, padded_requests(rows, batch_size), workers)
    for name, column in expected.items():
        np.testing.assert_array_equal(found[name], column)


def test_the_image_is_hashed_only_if_that_is_asked_for_and_training_gathers_nothing(pool):
    scoring, training = dataset(pool, every_caption=True), dataset(pool)
    assert scoring.facts == facts_named(False) == ("caption_chars", "script")
    assert scoring[BatchRequest(np.array([0]))]["facts"].tolist() == [[9, Script.latin]]
    assert training.facts == ()
    assert "facts" not in training[BatchRequest(np.array([0]))]


def test_a_hash_keeps_all_of_its_64_bits_on_the_way_into_a_column():
    names = facts_named(True)
    images = [bytes([n]) for n in range(64)]
    rows = [facts_of(names, "x", image) for image in images]
    found = facts_columns(names, np.array(rows, np.int64))["image_hash"]
    signed = [image_hash(image) for image in images]
    assert min(signed) < 0 < max(signed)
    assert found.tolist() == [value % 2**64 for value in signed]


def test_a_known_hash_is_never_0(monkeypatch):
    class Zero:
        def __init__(self, data, digest_size):
            self.size = digest_size

        def digest(self):
            return bytes(self.size)

    monkeypatch.setattr(hashlib, "blake2b", Zero)
    assert image_hash(b"anything") == 1
