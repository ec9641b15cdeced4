"""Pictures of what only one of two keeps, where the pool's images are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selffilter.comparing.sides import Side
from selffilter.errors import StoreGone, UserError
from selffilter.pool import multiset
from selffilter.pool.contact_sheet import draw_sheet, read_rows
from selffilter.pool.index import Pool
from selffilter.pool.multiset import Subset
from selffilter.rundir.materialising import rows_of
from selffilter.rundir.on_disk import RunOnDisk
from selffilter.store import write_atomically


def draw_sheets(sides: list[Side], folder: Path, samples: int) -> tuple[list[Path], list[str]]:
    """Draw, for the first side and each other, samples that one of the two alone keeps.

    Of runs it is what they keep for its score. Which samples are shown is drawn by lot.

    Args:
        sides: What is compared.
        folder: Where the pictures go.
        samples: How many a sheet shows at most.

    Returns:
        The files, and what could not be drawn, and why.
    """
    run = next((side.run for side in sides if side.run is not None), None)
    if run is None:
        return [], ["no contact sheets: subset files alone do not say where their pool is."]
    try:
        pool = _pool(run)
        written = []
        first = sides[0]
        for other in sides[1:]:
            for one, two in ((first, other), (other, first)):
                path = folder / f"only_{one.letter}_not_{two.letter}.png"
                if _draw_sheet(pool, run, _only(one.chosen, two.chosen), path, samples):
                    written.append(path)
    except (UserError, StoreGone) as error:
        return [], [f"no contact sheets: {error}"]
    return written, []


def _pool(run: RunOnDisk) -> Pool:
    run.pool.check_shards(run.config.pool.allow_pipe)
    return run.pool


def _only(one: Subset, other: Subset) -> Subset:
    """Return the uids of one that the other has not at all, each once."""
    once = [Subset(x.uids_N2, np.ones(len(x), np.int64)) for x in (one, other)]
    return multiset.minus(once)


def _draw_sheet(pool: Pool, run: RunOnDisk, only: Subset, path: Path, samples: int) -> bool:
    drawn = multiset.sample(only, min(samples, len(only)), seed=0)
    rows: NDArray[np.int64] = rows_of(pool, drawn)[0]
    if not len(rows):
        return False
    bounds = run.config.pool
    shown = read_rows(
        pool, rows, max_pixels=bounds.max_image_pixels, max_bytes=bounds.max_image_bytes
    )
    image = draw_sheet(shown)
    write_atomically(path, lambda file: image.save(file, "PNG"))
    return True
