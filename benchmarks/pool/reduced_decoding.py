"""What `pool.reduced_decoding` does to scores, and how much faster it is.

    python benchmarks/pool/reduced_decoding.py [--pool DIR] [--checkpoint RUN] [--samples 1500]

Takes pictures and captions of a pool (the demo's by default), writes the pictures as JPEGs of
several sizes, and scores each pair by the cosine of one model: decoded at full size, and reduced. A
picture that has to be enlarged is enlarged to hard edges and gets some grain: more detail than most
photos have at that size. Rates are of one process, the middle of `--repeat` turns, both ways by
turns. Without a checkpoint the demo's model is trained on the pool for a minute or two first.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from selffilter.clip.checkpoint import open_checkpoint
from selffilter.clip.model import Transform, encode_image, encode_text
from selffilter.config import load_config
from selffilter.pool.captions import CaptionKey, decode_captions
from selffilter.pool.decoding import decode_image
from selffilter.pool.demo import lay_out_demo
from selffilter.pool.index import Pool, build_index
from selffilter.pool.row_reader import RowReader
from selffilter.randomness import draw
from selffilter.run import run
from selffilter.selecting.drift import jaccard
from selffilter.team import Team
from selffilter.tracking.console import Screen

ROOT = Path(__file__).parent.parent.parent
SIDES = (75, 150, 300, 512, 768, 1024)
TOP = 0.3
LIMIT = 10**8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pool", type=Path, help="folder of shards with captions in .txt")
    parser.add_argument("--checkpoint", help="a run, or what else `selffilter evaluate` takes")
    parser.add_argument("--samples", type=int, default=1500)
    parser.add_argument("--timed", type=int, default=200, help="samples to measure rates on")
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        shards = args.pool or lay_out_demo(Path(scratch), 0.5, 0) / "pool"
        index = Path(scratch) / "index"
        pool = Pool(index, build_index([str(shards)], index))
        opened = open_checkpoint(args.checkpoint or train(shards, Path(scratch)))
        pictures, captions = read(pool, args.samples)
        need = opened.recipe.shorter_side_needed()
        transform = opened.recipe.transform()
        with torch.no_grad():
            text_ND = torch.cat(
                [encode_text(opened.model, t) for t in opened.recipe.tokenize(captions).split(256)]
            )
        print(f"{len(pictures):,} pairs; the model sees {need} px; JPEG quality 90")
        print(
            " side  decoded  |d cosine| mean      max  sd(cosine)  Spearman  top 30 %   "
            "decode/s full  reduced  ratio   with transform"
        )
        for side in SIDES:
            jpegs = [as_jpeg(image, side, seed) for seed, image in enumerate(pictures)]
            full, reduced = (
                cosines(opened.model, transform, jpegs, text_ND, at_least)
                for at_least in (None, need)
            )
            change = np.abs(full - reduced)
            size = min(decode_image(jpegs[0], LIMIT, at_least=need).size)
            timed = jpegs[: args.timed]
            slow, fast = rates(timed, need, args.repeat, lambda image: image)
            slow_t, fast_t = rates(timed, need, args.repeat, transform)
            print(
                f"{side:5}{size:9}{change.mean():17.4f}{change.max():9.4f}{full.std():12.4f}"
                f"{spearman(full, reduced):10.4f}{jaccard(top(full), top(reduced)):10.3f}"
                f"{slow:16,.0f}{fast:9,.0f}{fast / slow:7.1f}{fast_t / slow_t:17.1f}",
                flush=True,
            )


def train(shards: Path, scratch: Path) -> str:
    """Train the demo's model on the whole pool; return where it is."""
    config = load_config(
        ROOT / "configs" / "demo.yaml",
        [
            f"runs_dir={scratch / 'runs'}", f"pool.shards=[{shards}]", "rounds.count=1",
            f"model.name={ROOT / 'configs' / 'models' / 'tiny_convnext.json'}",
            "rounds.samples_seen=25600", "rounds.fresh_weights_at=[]", "track.wandb=disabled",
            "rounds.final_selection=false",
        ],
    )  # fmt: skip
    return str(run(config, Team(torch.device("cpu")), Screen(quiet=True)).root)


def read(pool: Pool, samples: int) -> tuple[list[Image.Image], list[str]]:
    """Return the pictures and captions of some rows."""
    everything = np.setdiff1d(np.arange(pool.rows), pool.defect_rows)
    rows = draw(everything, min(samples, len(everything)), 0, "benchmark")
    key = CaptionKey.parse(pool.caption_key)
    pictures, captions = [], []
    for image, caption in RowReader(pool).read(rows):
        assert image is not None
        pictures.append(decode_image(image, LIMIT))
        captions.append(decode_captions(key, caption, None)[0])
    return pictures, captions


def as_jpeg(image: Image.Image, side: int, seed: int) -> bytes:
    """Return a picture as a JPEG with this shorter side."""
    scale = side / min(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    if scale > 1.5:
        image = image.resize(size, Image.Resampling.NEAREST)
        grain = np.random.default_rng(seed).normal(0, 4, (*size[::-1], 1))
        image = Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))
    else:
        image = image.resize(size, Image.Resampling.BICUBIC)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return out.getvalue()


def cosines(
    model: nn.Module,
    transform: Transform,
    jpegs: list[bytes],
    text_ND: torch.Tensor,
    at_least: int | None,
) -> NDArray[np.float32]:
    """Score each pair."""
    images = [transform(decode_image(data, LIMIT, at_least=at_least)) for data in jpegs]
    parts = [encode_image(model, part) for part in torch.stack(images).split(256)]
    found: NDArray[np.float32] = (torch.cat(parts) * text_ND).sum(-1).numpy()
    return found


def rates(
    jpegs: list[bytes], need: int, repeat: int, then: Callable[[Image.Image], object]
) -> tuple[float, float]:
    """Return samples a second, decoded at full size and reduced."""
    found: dict[int | None, list[float]] = {None: [], need: []}
    for _ in range(repeat):
        for at_least, values in found.items():
            begin = time.perf_counter()
            for data in jpegs:
                then(decode_image(data, LIMIT, at_least=at_least))
            values.append(len(jpegs) / (time.perf_counter() - begin))
    return statistics.median(found[None]), statistics.median(found[need])


def spearman(a_N: NDArray[np.float32], b_N: NDArray[np.float32]) -> float:
    """Return the correlation of the ranks."""
    ranks = [np.argsort(np.argsort(values)) for values in (a_N, b_N)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def top(scores_N: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the places of the best ones, ascending."""
    return np.sort(np.argsort(-scores_N)[: round(TOP * len(scores_N))])


if __name__ == "__main__":
    main()
