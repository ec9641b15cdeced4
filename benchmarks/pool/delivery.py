"""How many selected samples a second arrive, and at what cost, by share of the pool that is kept.

    python benchmarks/pool/delivery.py [--folder DIR] [--shards 8] [--samples 2500] [--decode]

Three ways to the same samples, one process each, side by side in one run, files in the page cache:

- *selffilter*: the batches of the plan, read at their places in the tars;
- *webdataset*: its reader over all tars, with a filter on the uid in the json;
- *materialised*: the selection written as tars of its own, then webdataset's reader over those
  (without the time that writing them took, which stands beside it).

Rates are of the middle of `--repeat` turns, the three ways by turns. Bytes are those asked of the
file system; webdataset's are the sizes of the tars.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import webdataset as wds
from photos import write_photo_pool

from selffilter.clip.model import find_recipe
from selffilter.pool import uids
from selffilter.pool.base import Base
from selffilter.pool.index import Pool, build_index
from selffilter.pool.reading import BatchRequest, PoolDataset
from selffilter.pool.row_reader import Reads, RowReader
from selffilter.pool.subset import write_subset
from selffilter.training.batch_plan import BatchPlan, WholeBase

SHARES = (1.0, 0.3, 0.1, 0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--samples", type=int, default=2500, help="a shard")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--decode", action="store_true", help="images and captions to tensors")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch) / "pool"
        every_uid = write_photo_pool(folder, args.shards, args.samples)
        index = folder.parent / "index"
        pool = Pool(index, build_index([str(folder)], index))
        print(
            f"{pool.rows:,} samples in {pool.shards} shards, "
            f"{sum(p.stat().st_size for p in folder.glob('*.tar')) / 1e6:,.0f} MB; "
            f"{'decoded' if args.decode else 'bytes alone'}"
        )
        print(
            f"{'kept':>6} {'samples':>8} {'selffilter/s':>13} {'webdataset/s':>13} {'ratio':>7} "
            f"{'materialised/s':>15} {'ratio':>6} {'write s':>8} {'requests':>9} "
            f"{'bytes read / selected':>22} {'webdataset':>11}"
        )
        for share in SHARES:
            measure(share, pool, folder, every_uid, args, Path(scratch))


def measure(
    share: float, pool: Pool, folder: Path, every_uid: list[str], args, scratch: Path
) -> None:
    chosen = np.sort(
        np.random.default_rng(0).permutation(pool.rows)[: round(share * pool.rows)]
    ).astype(np.int64)
    names = {every_uid[row] for row in chosen}
    subset = scratch / f"{share}.npy"
    write_subset(subset, uids.from_hex(sorted(names)))
    tensors = Tensors() if args.decode else None

    written = scratch / f"written_{share}"
    began = time.perf_counter()
    write_selection(pool, chosen, written)
    writing = time.perf_counter() - began

    cost = Reads()

    def ours() -> int:
        nonlocal cost
        count, cost = read_by_plan(pool, subset, args.batch, tensors)
        return count

    tars = sorted(map(str, folder.glob("*.tar")))
    own = sorted(map(str, written.glob("*.tar")))
    ways: dict[str, Callable[[], int]] = {
        "selffilter": ours,
        "webdataset": lambda: stream(tars, args.batch, tensors, names),
        "materialised": lambda: stream(own, args.batch, tensors, None),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.repeat):
        for name, way in ways.items():
            began = time.perf_counter()
            count = way()
            rates[name].append(count / (time.perf_counter() - began))
            # The plan leaves less than a batch for the next pass.
            assert len(chosen) - args.batch < count <= len(chosen), (name, count)
    rate = {name: statistics.median(found) for name, found in rates.items()}
    wds_bytes = sum(p.stat().st_size for p in folder.glob("*.tar"))
    # What the selected samples are in the tars, headers and json included.
    selected = wds_bytes * share
    print(
        f"{share:>6} {len(chosen):>8,} {rate['selffilter']:>13,.0f} {rate['webdataset']:>13,.0f} "
        f"{rate['selffilter'] / rate['webdataset']:>7.1f} {rate['materialised']:>15,.0f} "
        f"{rate['selffilter'] / rate['materialised']:>6.2f} {writing:>8.1f} {cost.requests:>9,} "
        f"{cost.read_bytes / cost.wanted_bytes:>14.2f} ({cost.read_bytes / selected:.2f}) "
        f"{wds_bytes / selected:>11.1f}"
    )


class Tensors:
    """Image and caption to tensors, as open_clip does."""

    def __init__(self) -> None:
        recipe = find_recipe("ViT-B-32")
        self.transform, self.tokenize = recipe.transform(), recipe.tokenize


def read_by_plan(
    pool: Pool, subset: Path, batch: int, tensors: Tensors | None
) -> tuple[int, Reads]:
    base = Base(pool, seed=0, subset=subset)
    plan = BatchPlan(WholeBase(base), min(batch, base.size), seed=0, round_=0)
    steps = plan.batches_per_epoch
    count, cost = 0, Reads()
    if tensors is None:
        reader = RowReader(pool)
        for step in range(steps):
            count += len(reader.read(plan.batch(step)))
        return count, reader.reads
    data = PoolDataset(pool, tensors.transform, tensors.tokenize, max_pixels=10**8)
    for step in range(steps):
        got = data[BatchRequest(plan.batch(step))]
        count += int(got["valid"].sum())
        cost = Reads(
            *(a + b for a, b in zip(vars(cost).values(), got["reads"].tolist(), strict=True))
        )
    return count, cost


def stream(tars: list[str], batch: int, tensors: Tensors | None, names: set[str] | None) -> int:
    def selected(sample: dict[str, bytes]) -> bool:
        return json.loads(sample["json"])["uid"] in names

    found = wds.WebDataset(tars, shardshuffle=False, empty_check=False)
    if names is not None:
        found = found.select(selected)
    if tensors is None:
        return sum(1 for _ in found.to_tuple("jpg", "txt"))
    count = 0
    pairs = found.decode("pilrgb").to_tuple("jpg", "txt")
    for images, texts in batches_of(pairs, batch):
        torch.stack([tensors.transform(image) for image in images])
        tensors.tokenize(texts)
        count += len(images)
    return count


def batches_of(pairs, size: int) -> Iterator[tuple[list, list[str]]]:
    images: list = []
    texts: list[str] = []
    for image, text in pairs:
        images.append(image)
        texts.append(text)
        if len(images) == size:
            yield images, texts
            images, texts = [], []
    if images:
        yield images, texts


def write_selection(pool: Pool, rows: np.ndarray, out: Path) -> None:
    """Write rows as tars in a random order, as materialising does."""
    from selffilter.pool.writing import write_tar

    mixed = np.random.default_rng(1).permutation(rows)
    reader = RowReader(pool)
    for number, part in enumerate(np.array_split(mixed, max(1, len(mixed) // 2500))):
        found = reader.read(part, ("image", "json", "caption"))
        write_tar(
            out / f"{number:05d}.tar",
            (
                (f"{number:05d}{place:04d}", {"jpg": image, "json": about, "txt": caption})
                for place, (image, about, caption) in enumerate(found)
            ),
        )


if __name__ == "__main__":
    main()
