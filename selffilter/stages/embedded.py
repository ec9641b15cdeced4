"""What a round's kept embeddings are good for in selecting: features by row, and clusters.

Leaves ``selection/clusters.npy`` and ``selection/centroids.safetensors``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from selffilter.config import Config
from selffilter.errors import UserError
from selffilter.planning import encoded_in
from selffilter.scoring.embeddings.embeddings import Embeddings
from selffilter.scoring.embeddings.folder import open_folder
from selffilter.selecting.clusters import Clusters, cluster
from selffilter.selecting.cosines import Features
from selffilter.selecting.scratch import Scratch
from selffilter.store import RunStore, write_atomically
from selffilter.tables import CLUSTERS

CENTROIDS = "centroids.safetensors"
"""``centroids_KD`` float32, unit-norm; as metadata, what the clusters were made with."""


class RowFeatures:
    """Image features by row number, from embeddings that some or all of the rows have.

    Args:
        embeddings: With images.
        rows: N, of the whole pool.
        row_P: Which row each place of the embeddings is of, (P,) int64, each row once; None: what
            the writer says.

    Attributes:
        embeddings: As given.
        among_N: Which rows have a place in the embeddings, (N,) bool. At some of them there may be
            NaN: those failed.

    Raises:
        UserError: If there are no image embeddings, or they are not of these rows.
    """

    def __init__(
        self, embeddings: Embeddings, rows: int, row_P: NDArray[np.int64] | None = None
    ) -> None:
        if "image" not in embeddings.sides:
            raise UserError(f"{embeddings.folder} has no image embeddings, which this needs.")
        if row_P is None:
            row_P = embeddings.pool_rows()
        self.embeddings = embeddings
        self._place_P: NDArray[np.int64] | None = None
        if (row_P[1:] <= row_P[:-1]).any():
            self._place_P = np.argsort(row_P, kind="stable")
            row_P = row_P[self._place_P]
        if row_P[0] < 0 or row_P[-1] >= rows or (row_P[1:] == row_P[:-1]).any():
            raise UserError(
                f"{embeddings.folder} has embeddings of rows {row_P[0]:,} to {row_P[-1]:,}; the "
                f"rows here are 0 to {rows - 1:,}, each once: they are of another pool."
            )
        self.among_N = np.zeros(rows, bool)
        self.among_N[row_P] = True
        # Where every row has a place, and in order, nothing need be looked up.
        everything = len(row_P) == rows and self._place_P is None
        self._row_P = None if everything else row_P

    def __call__(self, rows_n: NDArray[np.int64]) -> Features:
        """Return the unit-norm image features of some rows, (n, D) float32; NaN: it has none."""
        if self._row_P is None:
            return self._gather(rows_n)
        order = np.argsort(rows_n, kind="stable")  # searching in order is far faster
        place_n = np.empty(len(rows_n), np.int64)
        place_n[order] = np.searchsorted(self._row_P, rows_n[order])
        place_n = np.minimum(place_n, len(self._row_P) - 1)
        there_n = self._row_P[place_n] == rows_n
        if self._place_P is not None:
            place_n = self._place_P[place_n]
        features_nD = self._gather(place_n)
        features_nD[~there_n] = np.nan
        return features_nD

    def _gather(self, place_n: NDArray[np.int64]) -> Features:
        features_nD: Features = self.embeddings.gather("image", place_n).numpy()
        return features_nD


def round_features(config: Config, store: RunStore, round_: int, rows: int) -> RowFeatures:
    """Open the embeddings that go with a round's scores.

    They are of the rows that the model looked at (see `encoded_in`): with ``score.fraction`` or
    ``score.rescore: unconsumed`` these are not all, and those of an earlier model cannot stand in
    for them.

    Args:
        config: Of the run.
        store: The run.
        round_: Which round.
        rows: N, of the pool.

    Raises:
        UserError: If nothing was kept.
    """
    encoded = encoded_in(config, round_)
    folder = store.stage(round_ if encoded is None else encoded, "score") / "embeddings"
    if not folder.is_dir():
        raise UserError(
            f"round {round_} has kept no embeddings, which clusters, near-duplicates and the "
            "neighbours of evaluation images need: set score.keep_embeddings=true."
        )
    return RowFeatures(open_folder(folder), rows)


def stored_clusters(
    folder: Path,
    features: RowFeatures,
    clusters: int,
    seed: int,
    *,
    scratch: Scratch | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Clusters:
    """Return the clusters of the rows that have embeddings; made once, then read.

    Args:
        folder: Where `CLUSTERS` and `CENTROIDS` go. What lies there is taken if it was made of the
            same embeddings with the same settings, and replaced otherwise.
        features: Of the rows.
        clusters: K.
        seed: Of sample and fit.
        scratch: See `cluster`.
        progress: Called with the number of rows just assigned; not at all if all is there.

    Raises:
        UserError: See `cluster`.
    """
    codes, centroids = folder / CLUSTERS, folder / CENTROIDS
    made_with = {
        "clusters": clusters,
        "seed": seed,
        "rows": len(features.among_N),
        "embeddings": _fingerprint(features),
    }
    # One entry: safetensors writes several in an order that is another each time (0.7).
    metadata = {"made_with": json.dumps(made_with, sort_keys=True)}
    if codes.exists() and centroids.exists():
        with safe_open(centroids, "np") as file:
            if file.metadata() == metadata:
                return Clusters(np.load(codes, allow_pickle=False), file.get_tensor("centroids_KD"))
    found = cluster(features, features.among_N, clusters, seed, scratch=scratch, progress=progress)
    codes.unlink(missing_ok=True)  # so that old codes never stand beside new centroids
    tensors = {"centroids_KD": found.centroids_KD}
    write_atomically(centroids, lambda file: file.write(save(tensors, metadata)))
    write_atomically(codes, lambda file: np.save(file, found.codes_N, allow_pickle=False))
    return found


def _fingerprint(features: RowFeatures) -> str:
    about = [features.embeddings.description, features.embeddings.rows, features.embeddings.width]
    said = json.dumps([*about, int(features.among_N.sum())], sort_keys=True, default=str)
    return hashlib.sha256(said.encode()).hexdigest()
