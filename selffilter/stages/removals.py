"""Rows that leave the base before anything is selected: what is in the evaluation sets, duplicates.

Leaves ``selection/about/removed.parquet``: each removed row, why, and what is there in its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from selffilter.evaluation.evaluate import EvaluationSettings
from selffilter.evaluation.sets import open_sets
from selffilter.planning import encoded_in
from selffilter.selecting.duplicates import Duplicates, exact_duplicates, near_duplicates
from selffilter.selecting.facts import read_fact
from selffilter.selecting.leakage import Leaks, near_images, same_images
from selffilter.selecting.scratch import Scratch
from selffilter.stages.context import RunContext
from selffilter.stages.embedded import round_features
from selffilter.stages.evaluation_images import (
    Numbering,
    evaluation_features,
    evaluation_hashes,
)
from selffilter.stages.groupings import Groupings
from selffilter.stages.score import AUTOCAST
from selffilter.tables import REMOVED, write_table

NAME = REMOVED


REASONS = ("in_evaluation_set", "near_evaluation_set", "exact_duplicate", "near_duplicate")


@dataclass(frozen=True)
class Removals:
    """Rows that leave the base.

    Attributes:
        rows_R: Ascending, (R,) int64.
        reason_R: Places in `REASONS`, (R,) int8.
        of_row_R: The row that stands for it, int64; -1: none does.
        of_R: The evaluation image that it shows, int32, a place in `images`; -1: none.
        images: What people call evaluation images.
    """

    rows_R: NDArray[np.int64]
    reason_R: NDArray[np.int8]
    of_row_R: NDArray[np.int64]
    of_R: NDArray[np.int32]
    images: list[str]

    def counts(self) -> dict[str, int]:
        """Return how many there are by reason."""
        counts = np.bincount(self.reason_R, minlength=len(REASONS)).tolist()
        return {name: count for name, count in zip(REASONS, counts, strict=True) if count}

    def write(self, path: Path) -> None:
        """Write them as a table."""
        of = pa.array(self.of_R, mask=self.of_R < 0)
        named = pa.DictionaryArray.from_arrays
        columns = {
            "row": pa.array(self.rows_R),
            "reason": named(pa.array(self.reason_R), pa.array(REASONS)),
            "of_row": pa.array(self.of_row_R),
            "of": named(of, pa.array(self.images, pa.string())),
        }
        write_table(path, pa.table(columns))


def find_removals(
    context: RunContext,
    round_: int,
    merit_N: NDArray[np.float32],
    base_N: NDArray[np.bool_],
    groupings: Groupings,
    scratch: Scratch,
) -> Removals | None:
    """Find what leaves the base of a round; None if nothing is asked for.

    Args:
        context: The run.
        round_: Which.
        merit_N: What rows are ranked by: of duplicates the best stays.
        base_N: Which rows may be selected.
        groupings: For the clusters in which near-duplicates are looked for.
        scratch: Where arrays of a row each come from.
    """
    select = context.config.select
    if select.duplicates == "keep" and not select.without:
        return None
    left_N = base_N.copy()
    leaks, numbering = _leaks(context, round_, left_N)
    left_N[leaks.rows_L] = False
    exact, near = Duplicates.none(), Duplicates.none()
    if select.duplicates != "keep":
        exact = exact_duplicates(
            _hashes(context, round_), merit_N, left_N, context.pool.uids_of, scratch=scratch
        )
        left_N[exact.rows_R] = False
    if select.duplicates == "near":
        features = round_features(context.config, context.store, round_, context.pool.rows)
        with context.screen.bar("near-duplicates", int(left_N.sum())) as bar:
            near = near_duplicates(
                groupings.named("cluster").codes_N,
                merit_N,
                left_N,
                context.pool.uids_of,
                features,
                select.duplicate_cosine,
                scratch=scratch,
                progress=bar.advance,
            )
    return _joined(leaks, numbering, exact, near)


def _hashes(context: RunContext, round_: int) -> NDArray[np.uint64]:
    hashes_N = read_fact(context.store.stage(round_, "score"), context.pool, "image_hash")
    assert hashes_N is not None, "scoring writes them where the config asks for removals"
    return hashes_N


def _leaks(
    context: RunContext, round_: int, among_N: NDArray[np.bool_]
) -> tuple[Leaks, Numbering | None]:
    c = context.config
    none = Leaks(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    if not c.select.without:
        return none, None
    sets = open_sets(c.select.without)
    settings = EvaluationSettings(
        c.evaluate.batch_size, c.hardware.workers, autocast=AUTOCAST[c.hardware.precision]
    )
    kept = context.store.root / "evaluation_hashes"
    hashes_M, numbering = evaluation_hashes(sets, kept, settings)
    leaks = same_images(_hashes(context, round_), among_N, hashes_M)
    if c.select.without_cosine is None:
        return leaks, numbering
    features = round_features(c, context.store, round_, context.pool.rows)
    encoded = encoded_in(c, round_)
    assert encoded is not None, "`check_selection` has refused it"
    model = context.scorer(encoded)
    evaluation_MD, numbering = evaluation_features(model, context.recipe, sets, settings)
    with context.screen.bar("near evaluation images", int(among_N.sum())) as bar:
        near = near_images(features, among_N, evaluation_MD, c.select.without_cosine, bar.advance)
    return leaks.then(near), numbering


def _joined(
    leaks: Leaks, numbering: Numbering | None, exact: Duplicates, near: Duplicates
) -> Removals:
    both = exact.then(near)  # what stands for a row may have gone as a near-duplicate itself
    images_G, of_L = np.unique(leaks.of_L, return_inverse=True)
    duplicate_R = np.where(np.isin(both.rows_R, exact.rows_R, assume_unique=True), 2, 3)
    rows = np.concatenate([leaks.rows_L, both.rows_R])
    reason = np.concatenate([np.where(np.isnan(leaks.cosine_L), 0, 1), duplicate_R])
    of_row = np.concatenate([np.full(len(leaks.rows_L), -1, np.int64), both.of_R])
    of = np.concatenate([of_L, np.full(len(both.rows_R), -1)])
    order = np.argsort(rows)
    return Removals(
        rows[order],
        reason[order].astype(np.int8),
        of_row[order],
        of[order].astype(np.int32),
        [numbering.name(image) for image in images_G.tolist()] if numbering else [],
    )
