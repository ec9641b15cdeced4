"""What it costs to write down facts of rows while they are scored, and to group rows by a field.

    python benchmarks/pool/facts_and_fields.py

Facts beside reading, decoding and transforming the same row, in processor time; fields from jsons,
from img2dataset's metadata, and from what was kept of them, as time on one core.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from photos import jpeg

from selffilter.clip.model import find_recipe
from selffilter.pool.fields import field_values
from selffilter.pool.index import Pool, build_index
from selffilter.pool.reading import PoolDataset, padded_requests
from selffilter.pool.row_facts import facts_named, facts_of
from selffilter.pool.writing import write_tar

CAPTIONS = (
    "A red bicycle leaning against an old brick wall, 1964 edition",
    "Café “Müller” – a red bicycle leaning against an old brick wall",
    "赤い自転車が古いレンガの壁に立てかけられている写真",
)
FIELDS = ("language", "domain(url)", "exif.Make")
SAMPLES = 10_000
BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--sides", type=int, nargs="*", default=[64, 256, 512], help="pixels")
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        for side in args.sides:
            facts_cost(Path(name) / f"photos-{side}", side, args.model, args.repeat)
        for with_metadata in (False, True):
            fields_cost(Path(name) / f"fields-{with_metadata}", with_metadata)


def facts_cost(folder: Path, side: int, model: str, repeat: int) -> None:
    images = [jpeg(seed, side) for seed in range(32)]
    samples = [
        (f"{place:04d}", {"jpg": images[place % 32], "txt": CAPTIONS[place % 3].encode()})
        for place in range(4 * BATCH)
    ]
    write_tar(folder / "0.tar", iter(samples))
    pool = Pool(folder / "index", build_index([str(folder)], folder / "index"))
    recipe = find_recipe(model)
    data = PoolDataset(
        pool, recipe.transform(), recipe.tokenize, max_pixels=10**8, every_caption=True
    )

    def read() -> None:
        for request in padded_requests(pool.shard_rows(0), BATCH):
            data[request]

    def gather(names: tuple[str, ...]) -> None:
        for place in range(len(samples)):
            facts_of(names, CAPTIONS[place % 3], images[place % 32])

    whole, caption, both = (
        median_s(action, repeat) / len(samples) * 1e6
        for action in (read, lambda: gather(facts_named(False)), lambda: gather(facts_named(True)))
    )
    size = sum(map(len, images)) / len(images) / 1000
    print(
        f"{side} px, {size:.0f} kB: a sample {whole:,.0f} us; facts of its caption "
        f"{caption:.1f} us = {caption / whole:.2%}; hash of its image {both - caption:.1f} us = "
        f"{(both - caption) / whole:.2%}",
        flush=True,
    )


def median_s(action: Callable[[], None], repeat: int) -> float:
    action()
    found = []
    for _ in range(repeat):
        began = time.process_time()
        action()
        found.append(time.process_time() - began)
    return statistics.median(found)


def fields_cost(folder: Path, with_metadata: bool) -> None:
    rng = np.random.default_rng(0)
    image = rng.bytes(20_000)
    sites = np.minimum(rng.zipf(1.3, SAMPLES), 5000)
    abouts = [
        {
            "key": f"{place:09d}", "url": f"https://www.site{site}.com/p/{place}.jpg",
            "caption": CAPTIONS[0], "status": "success", "width": 256, "height": 256,
            "language": ("en", "de", "fr")[place % 3], "sha256": "a" * 64,
            "exif": json.dumps({"Make": "Canon", "Note": "x" * 200}),
        }
        for place, site in enumerate(sites.tolist())
    ]  # fmt: skip
    write_tar(
        folder / "0.tar",
        (
            (about["key"], {"jpg": image, "txt": b"t", "json": json.dumps(about).encode()})
            for about in abouts
        ),
    )
    if with_metadata:
        pq.write_table(pa.Table.from_pylist(abouts), folder / "0.parquet")
    pool = Pool(folder / "index", build_index([str(folder)], folder / "index"))
    for field in FIELDS:
        times = []
        for _ in range(2):
            began = time.perf_counter()
            field_values(pool, field)
            times.append((time.perf_counter() - began) / pool.rows * 1e6)
        kept = sum(p.stat().st_size for p in (folder / "index" / "fields").rglob("*.parquet"))
        shutil.rmtree(folder / "index" / "fields")
        print(
            f"{field}, {'metadata' if with_metadata else 'jsons'}: {times[0]:.1f} us a row, kept "
            f"{times[1]:.2f} us, {kept / pool.rows:.2f} bytes a row",
            flush=True,
        )


if __name__ == "__main__":
    main()
