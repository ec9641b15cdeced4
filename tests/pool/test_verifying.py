import json

import numpy as np
import pytest

from selffilter.pool.failures import Failure
from selffilter.pool.index import Pool, build_index
from selffilter.pool.verifying import FAILED_ROWS, failed_rows, verify_samples

BOUNDS = {"max_pixels": 1000, "max_bytes": 5000}


@pytest.fixture
def broken_pool(make_tar, picture, tmp_path):
    """Two shards with a sample of each defect, and some good ones."""
    uid = json.dumps({"uid": "a" * 32}).encode()
    good = {"png": picture(0), "txt": b"t"}
    make_tar(
        tmp_path / "p" / "0.tar",
        [
            ("good", {**good, "json": uid}),
            ("again", {**good, "json": uid}),
            ("no-image", {"txt": b"t"}),
            ("cut", {"png": picture(1)[:-60], "txt": b"t"}),
            ("junk", {"png": b"junk", "txt": b"t"}),
        ],
    )
    make_tar(
        tmp_path / "p" / "1.tar",
        [
            ("blank", {**good, "txt": b" \n"}),
            ("pixels", {**good, "png": picture(0, (50, 21))}),
            ("bytes", {**good, "png": picture(0) + bytes(5000)}),
            *((f"fine-{i}", good) for i in range(70)),
        ],
    )
    return Pool(tmp_path / "i", build_index([str(tmp_path / "p")], tmp_path / "i"))


def test_every_sample_is_read_and_decoded_and_gets_the_verdict_that_training_gives(broken_pool):
    done = []
    first, second = verify_samples(broken_pool, **BOUNDS, on_rows=done.append)
    assert [Failure(f).name for f in first.failures_n] == [
        "none", "duplicate_uid", "missing_image", "image_truncated", "image_unreadable",
    ]  # fmt: skip
    assert [Failure(f).name for f in second.failures_n[:3]] == [
        "caption_empty", "image_too_large", "image_too_large",
    ]  # fmt: skip
    assert not second.failures_n[3:].any()
    assert (first.rows_n.tolist(), second.rows_n.tolist()) == (list(range(5)), list(range(5, 78)))
    assert sum(done) == 78


def test_several_processes_find_the_same(broken_pool):
    alone = list(verify_samples(broken_pool, **BOUNDS))
    several = list(verify_samples(broken_pool, **BOUNDS, workers=2))
    for one, other in zip(alone, several, strict=True):
        np.testing.assert_array_equal(one.failures_n, other.failures_n)


def test_a_fraction_is_a_seeded_draw_of_rows(broken_pool):
    def rows(seed):
        found = verify_samples(broken_pool, **BOUNDS, fraction=0.4, seed=seed)
        return np.concatenate([part.rows_n for part in found]).tolist()

    assert rows(0) == rows(0) != rows(1)
    assert 15 < len(rows(0)) < 50


def test_failed_rows_are_listed_with_what_finds_them_again(broken_pool):
    table = failed_rows(broken_pool, 1, np.array([5, 6, 9]), np.array([8, 6, 0], np.uint8))
    assert table.schema.equals(FAILED_ROWS)
    assert table.drop_columns(["uid"]).to_pylist() == [
        {"row": 5, "source": "p", "shard": "1.tar", "key": "blank", "reason": "caption_empty"},
        {"row": 6, "source": "p", "shard": "1.tar", "key": "pixels", "reason": "image_too_large"},
    ]
    assert table["uid"].to_pylist() == broken_pool.shard_table(1)["uid"].to_pylist()[:2]
