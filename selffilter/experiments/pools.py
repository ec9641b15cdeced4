"""Laying out the pool of a run: the noise is planted with the run's seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from selffilter.errors import UserError
from selffilter.experiments.schema import PoolSpec
from selffilter.pool.demo import lay_out_demo
from selffilter.pool.noisy_pool import write_noisy_pool
from selffilter.tracking.console import Screen


@dataclass(frozen=True)
class LaidOut:
    """A pool on disk.

    Attributes:
        shards: See ``pool.shards``.
        truth: See ``evaluate.truth``; None: nobody knows which rows are clean.
        zero_shot: See ``evaluate.zero_shot``; empty: as the base config has it.
    """

    shards: tuple[str, ...]
    truth: Path | None
    zero_shot: tuple[str, ...]


def lay_out(spec: PoolSpec, seed: int, folder: Path, screen: Screen) -> LaidOut:
    """Lay out a pool, if it is not there, and plant its noise.

    Args:
        spec: Which pool and which noise.
        seed: Of the noise.
        folder: Where pools with planted noise are written.
        screen: Sees the progress.

    Raises:
        UserError: If the noise cannot be planted.
    """
    noise = spec.noise_settings(seed)
    shards, zero_shot = spec.shards, spec.zero_shot
    if spec.demo:
        # The demo knows its samples' labels, which its shards do not tell: it plants by itself.
        by_itself = noise is not None and noise.kind == "mismatched"
        rate = noise.rate if noise and by_itself else 0.0
        home = lay_out_demo(folder, rate, seed if by_itself else 0)
        shards = (str(home / "pool"),)
        zero_shot = zero_shot or (str(home / "eval" / "openclipart"),)
        if by_itself:
            return LaidOut(shards, home / "truth.parquet", zero_shot)
    if noise is None:
        return LaidOut(shards, Path(spec.truth) if spec.truth else None, zero_shot)
    out = folder / f"{noise.kind}{100 * noise.rate:g}-seed{seed}"
    try:
        write_noisy_pool(list(shards), out, noise, bar=screen.bar)
    except UserError as error:
        raise UserError(f"pool {spec.name}: {error}") from error
    return LaidOut((str(out / "pool"),), out / "truth.parquet", zero_shot)
