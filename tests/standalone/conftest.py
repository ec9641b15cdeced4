"""DataComp's metadata on a small scale."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selffilter.pool import uids
from selffilter.pool.subset import read_subset

SIZES = (130, 1, 169, 100)
WIDTH = 24


def near(rows, seed, spread=0.35):
    """Unit rows near each other, as float16 keeps them."""
    generator = np.random.default_rng(seed)
    found = 1 + spread * generator.standard_normal((rows, WIDTH)) * np.arange(1, WIDTH + 1) ** -0.3
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float16)


def write_metadata(folder, image, text, numbers, sizes=SIZES):
    folder.mkdir(parents=True)
    bounds = np.cumsum([0, *sizes])
    for stem, (begin, end) in enumerate(pairwise(bounds)):
        u, v = image[begin:end], text[begin:end]
        arrays = {"l14_img": u, "l14_txt": v, "b32_img": v[:, :8], "b32_txt": u[:, :8]}
        np.savez(folder / f"{stem:08x}.npz", **arrays, dedup=np.zeros(end - begin))
        cosine = (u.astype(np.float64) * v).sum(1).astype(np.float32)
        table = {
            "uid": [f"{n:032x}" for n in numbers[begin:end]],
            "text": ["a caption"] * (end - begin),
            "clip_l14_similarity_score": pa.array(cosine, mask=np.isnan(cosine)),
        }
        pq.write_table(pa.table(table), folder / f"{stem:08x}.parquet")


@pytest.fixture
def lay_out_metadata():
    return write_metadata


@pytest.fixture
def metadata(tmp_path):
    """Four files of 400 rows; three rows unusable, some pairs alike; and a target's images."""
    rows = sum(SIZES)
    image, text = near(rows, 0), near(rows, 1)
    text[: rows // 2] = near(rows // 2, 2, 0.1)
    image[350:360], text[350:360] = image[:10], text[:10]
    image[7], image[133], text[200] = np.nan, 0, np.inf
    numbers = np.random.default_rng(3).permutation(2**40 + np.arange(rows) * 997)
    write_metadata(tmp_path / "metadata", image, text, numbers.tolist())
    target = near(60, 4)
    np.save(tmp_path / "target.npy", target)
    usable = np.ones(rows, bool)
    usable[[7, 133, 200]] = False
    wide = [f.astype(np.float64) for f in (image, text, target)]
    with np.errstate(invalid="ignore", divide="ignore"):
        wide = [f / np.linalg.norm(f, axis=1, keepdims=True) for f in wide]
    return SimpleNamespace(
        folder=tmp_path / "metadata",
        image=wide[0],
        text=wide[1],
        target=wide[2],
        numbers=numbers,
        usable=usable,
        rows=rows,
    )


def read_numbers(path):
    return {int(text, 16) for text in uids.to_hex(read_subset(path))}


@pytest.fixture
def numbers_of():
    """Return the uids of a subset file as numbers."""
    return read_numbers


@pytest.fixture
def column_of():
    """Return a column of a folder of scores, all shards."""

    def column(folder, name):
        parts = [pq.read_table(path)[name] for path in sorted(folder.glob("*.parquet"))]
        return np.concatenate([part.to_numpy(zero_copy_only=False) for part in parts])

    return column
