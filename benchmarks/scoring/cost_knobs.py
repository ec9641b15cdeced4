"""What the cheaper ways to score change: rank correlation with the full one, on a finished run.

    python benchmarks/scoring/cost_knobs.py RUN

RUN's final model scores RUN's pool: in float32, in bf16 (hardware.precision), with images whose
shorter side was shrunk first (a pool stored smaller), and with smaller banks. The bank against the
published form: bank_against_permutation.py on RUN's kept embeddings.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import spearmanr

from selffilter.clip.checkpoint import open_checkpoint
from selffilter.config import read_run_config
from selffilter.pool.base import Base
from selffilter.pool.index import Pool
from selffilter.pool.reading import PoolDataset
from selffilter.scoring.pool_pass import PoolPass
from selffilter.scoring.signals.find import find_signal
from selffilter.store import RunStore, read_json
from selffilter.tables import read_table

SIGNALS = ("neg_clip_loss", "cosine", "variance_alignment_image_traindata")
Change = Callable[[Image.Image], Image.Image]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--sides", type=int, nargs="*", default=[24, 16], help="pixels")
    parser.add_argument("--banks", type=int, nargs="*", default=[1024, 256])
    parser.add_argument("--keep", type=float, default=0.3, help="share whose overlap is told")
    args = parser.parse_args()
    full = scored(args.run)
    print(f"{len(full[SIGNALS[0]]):,} rows; rank correlation (overlap of the best {args.keep:.0%})")
    print(f"{'':24}" + "".join(f"{name:>38}" for name in SIGNALS))

    def line(name: str, scores: dict[str, NDArray[np.float32]]) -> None:
        cells = []
        for signal in SIGNALS:
            correlation = spearmanr(scores[signal], full[signal]).statistic
            kept = round(args.keep * len(full[signal]))
            best = [set(np.argsort(-s[signal])[:kept].tolist()) for s in (scores, full)]
            cells.append(f"{correlation:.5f} ({len(best[0] & best[1]) / kept:.4f})")
        print(f"{name:24}" + "".join(f"{cell:>38}" for cell in cells), flush=True)

    line("bf16", scored(args.run, autocast=torch.bfloat16))
    for side in args.sides:
        line(f"images of {side} pixels", scored(args.run, change=shrinking_to(side)))
    for size in args.banks:
        line(f"bank of {size:,}", scored(args.run, bank_size=size))


def shrinking_to(side: int) -> Change:
    """Return what makes the shorter side of a larger image so many pixels."""

    def change(image: Image.Image) -> Image.Image:
        factor = side / min(image.size)
        if factor >= 1:
            return image
        width, height = (max(1, round(factor * length)) for length in image.size)
        return image.resize((width, height), Image.Resampling.BICUBIC)

    return change


def scored(
    run: Path,
    *,
    autocast: torch.dtype | None = None,
    change: Change = lambda image: image,
    bank_size: int | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Score a run's pool with its final model; columns of the rows that are usable."""
    config, checkpoint = read_run_config(RunStore(run).config_path), open_checkpoint(str(run))
    pinned = read_json(run / "environment.json")["pool"]
    pool = Pool(Path(pinned["index_dir"]), pinned["version"], config.pool.caption_key)
    transform = checkpoint.recipe.transform()
    dataset = PoolDataset(
        pool,
        lambda image: transform(change(image)),
        checkpoint.recipe.tokenize,
        max_pixels=config.pool.max_image_pixels,
        seed=config.seed,
        every_caption=True,
    )
    pool_pass = PoolPass(
        checkpoint.model,
        dataset,
        Base(pool, config.seed),
        {name: find_signal(name) for name in SIGNALS},
        batch_size=config.score.batch_size,
        workers=0,
        autocast=autocast,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pool_pass.write_bank(folder / "bank.safetensors", bank_size or config.score.bank_size)
        bank = pool_pass.read_bank(folder / "bank.safetensors")
        pool_pass.score_shards(list(range(pool.shards)), folder, 0, bank)
        table = pa.concat_tables([read_table(path) for path in sorted(folder.glob("*.parquet"))])
    usable = table["failure"].to_numpy() == 0
    return {name: table[name].to_numpy()[usable] for name in SIGNALS}


if __name__ == "__main__":
    main()
