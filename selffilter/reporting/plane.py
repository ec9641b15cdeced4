"""The pool in a plane: two principal axes of its embeddings, or its scores of two rounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selffilter.planning import encoded_in
from selffilter.randomness import hash_rows
from selffilter.reporting.draw_of_rows import Drawn
from selffilter.rundir.on_disk import RunOnDisk
from selffilter.selecting.combine import quantiles

MOST_POINTS = 5000


@dataclass(frozen=True)
class Plane:
    """Places of P of the followed rows.

    Attributes:
        chosen_P: Their places in `Drawn.rows_S`, int64.
        xy_P2: Between 0 and 1, float64.
        of_embeddings: Whether the axes are the embeddings' principal ones; else x is the quantile
            of a row's score in the first round, y that in the last.
        explained: Share of the embeddings' variance along the two axes; NaN without embeddings.
    """

    chosen_P: NDArray[np.int64]
    xy_P2: NDArray[np.float64]
    of_embeddings: bool
    explained: float


def principal_plane(features_PD: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
    """Project on the two axes of largest variance.

    Each axis points so that the third moment along it is not negative: the same features give the
    same picture.

    Args:
        features_PD: (P, D), finite, P > 2 and D > 1.

    Returns:
        (P, 2), and the share of the variance along the two.
    """
    centred_PD = features_PD.astype(np.float64)
    centred_PD -= centred_PD.mean(axis=0)
    variance_D, axes_DD = np.linalg.eigh(centred_PD.T @ centred_PD)
    xy_P2 = centred_PD @ axes_DD[:, [-1, -2]]
    xy_P2 *= np.where((xy_P2**3).sum(axis=0) < 0, -1.0, 1.0)
    total = float(variance_D.sum())
    return xy_P2, float(variance_D[-2:].sum()) / total if total > 0 else float("nan")


def lay_out(run: RunOnDisk, drawn: Drawn, most: int = MOST_POINTS) -> Plane | None:
    """Lay some of the followed rows of the base out; None if there is nothing to go by.

    Places along principal axes are spread out by their ranks half the way, so that a dense middle
    can be looked into.
    """
    base = np.flatnonzero(drawn.base_S)
    order = np.argsort(hash_rows(drawn.rows_S[base], run.config.seed, "map"), kind="stable")
    chosen = base[order[:most]]
    chosen.sort()
    if (found := _by_embeddings(run, drawn, chosen)) is not None:
        return found
    if len(drawn.rounds) < 2:
        return None
    x, y = drawn.quantile_S(0)[chosen], drawn.quantile_S(-1)[chosen]
    there = np.isfinite(x) & np.isfinite(y)
    if there.sum() < 3:
        return None
    xy = np.stack([x[there], y[there]], axis=1)
    return Plane(chosen[there], xy, of_embeddings=False, explained=float("nan"))


def _by_embeddings(run: RunOnDisk, drawn: Drawn, chosen: NDArray[np.int64]) -> Plane | None:
    encoded = encoded_in(run.config, drawn.rounds[-1])
    if encoded is None or not (run.store.stage(encoded, "score") / "embeddings").is_dir():
        return None
    from selffilter.stages.embedded import round_features  # torch is heavy

    features = round_features(run.config, run.store, encoded, run.pool.rows)
    features_PD = features(drawn.rows_S[chosen])
    there = np.isfinite(features_PD).all(axis=1)
    if there.sum() < 3 or features_PD.shape[1] < 2:
        return None
    xy, explained = principal_plane(features_PD[there])
    span = np.ptp(xy, axis=0)
    linear = (xy - xy.min(axis=0)) / np.where(span > 0, span, 1.0)
    ranked = np.stack([quantiles(column) for column in xy.T], axis=1)
    return Plane(chosen[there], (linear + ranked) / 2, of_embeddings=True, explained=explained)
