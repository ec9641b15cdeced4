"""`selffilter eliminate`: VAS-D and NormSim-D as a scoring job; see `scoring.elimination`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from selffilter.config import nearest
from selffilter.errors import UserError
from selffilter.interrupt import StopRequest
from selffilter.scoring.elimination import FeaturesOf, elimination_steps
from selffilter.scoring.embeddings.embeddings import Embeddings, unit_norm
from selffilter.scoring.embeddings.find import open_embeddings
from selffilter.scoring.embeddings.usable import unusable_rows
from selffilter.scoring.ready import pool_moments
from selffilter.selecting.cuts import Rule, apply_rules
from selffilter.standalone.embeddings_source import rows_of_part
from selffilter.standalone.folders import ScoreTables, read_score_tables
from selffilter.standalone.ready_scorer import embeddings_record, source_of
from selffilter.standalone.record import (
    NO_ROUND,
    begin_scores,
    differences,
    make_record,
    refuse_other_scores,
)
from selffilter.standalone.sharing import counting
from selffilter.tables import read_table, scores_schema, shard_file, write_table
from selffilter.tracking.console import Screen

COLUMN = "elimination_step"

Kind = Literal["variance_alignment", "norm_sim"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class EliminationSettings:
    """What to eliminate.

    Attributes:
        by: The signal that the first cut goes by.
        begin: Fraction of the original pool that it leaves.
        end: Fraction of the original pool that is left in the end.
        steps: T.
        kind: ``variance_alignment`` (VAS-D): the first step goes by the whole pool's Σ;
            ``norm_sim`` (NormSim-D): by that of the rows which take part.
        datacomp_model: Which embeddings of DataComp's metadata.
        memory_gb: What may be held of embeddings.
    """

    by: str
    begin: float
    end: float
    steps: int
    kind: str = "variance_alignment"
    datacomp_model: str = "l14"
    memory_gb: float = 16.0

    def check(self) -> None:
        """Check what can be checked without looking at anything.

        Raises:
            UserError: Naming the option.
        """
        if self.kind not in KINDS:
            hint = nearest(self.kind, KINDS)
            raise UserError(f"--kind {self.kind!r} is not one of {', '.join(KINDS)}.{hint}")
        if not 0 < self.end <= self.begin <= 1:
            raise UserError(
                f"--from {self.begin:g} --to {self.end:g}: both are fractions of the original "
                "pool, above 0, at most 1, and the second is not the larger one."
            )
        if self.steps < 1:
            raise UserError(f"--steps {self.steps} is below 1.")
        if not self.memory_gb > 0:
            raise UserError(f"--memory-gb {self.memory_gb:g} is not above 0.")


def run_eliminate(
    folder: Path,
    scores: Path,
    out: Path,
    settings: EliminationSettings,
    device: torch.device,
    screen: Screen,
    stop: StopRequest,
) -> str:
    """Eliminate, and write a folder of scores with the column `COLUMN`.

    A row that is dropped in step t has t; one that stays has T + 1; one that the first cut left out
    has 0; one that has no score or no usable image embedding has none.

    Args:
        folder: Embeddings of the pool; their images count.
        scores: A folder of scores of the same rows, with the signal that the first cut goes by.
        out: Where to.
        settings: What to do; checked.
        device: Where to compute.
        screen: Shows progress.
        stop: Asks to stop; nothing is written before the end.

    Returns:
        What was done, for the user.

    Raises:
        UserError: If embeddings and scores are not of the same rows, or too few rows are usable.
        Stopped: If asked to.
    """
    tables = read_score_tables([scores])
    embeddings = open_embeddings(folder, cast(Literal["b32", "l14"], settings.datacomp_model))
    record = make_record(tables.source, _scorer(tables, embeddings, settings), 0, device.type)
    refuse_other_scores(out, record)
    shards = range(tables.source["shards"])
    if all(shard_file(out, shard).exists() for shard in shards):
        return f"{out}: done before"
    place_N = _places(tables, embeddings)
    by_N = tables.column(settings.by)
    with screen.bar("look for unusable rows", embeddings.rows) as bar:
        bad_P = unusable_rows(embeddings, ["image"], progress=counting(bar, stop)) != 0
    usable_N = tables.usable_N & (place_N >= 0)
    usable_N[usable_N] = ~bad_P[place_N[usable_N]]
    usable_P = np.zeros(embeddings.rows, bool)
    usable_P[place_N[usable_N]] = True
    first_cut = Rule("keep", settings.by, settings.begin)
    in_N, (cut,) = apply_rules(
        {settings.by: by_N},
        usable_N,
        [first_cut],
        tables.uids_of,
        tables.indexed,
    )
    keep = round(settings.end * tables.indexed)
    if not 1 <= keep <= cut.kept:
        raise UserError(f"--to {settings.end:g} of {tables.indexed:,} rows is none.")
    first = None
    if settings.kind == "variance_alignment":
        with screen.bar("moments of the whole pool", embeddings.rows) as bar:
            first = pool_moments(embeddings, usable_P, device=device, progress=counting(bar, stop))
    places = place_N[in_N]
    features_of = _features(embeddings, places, settings.memory_gb, device)
    with screen.bar("eliminate", cut.kept - keep) as bar:
        step_n = elimination_steps(
            features_of,
            places,
            tables.uids_of(np.flatnonzero(in_N)),
            keep=keep,
            rounds=settings.steps,
            first=first,
            progress=counting(bar, stop),
        )
    step_N = np.where(usable_N & np.isfinite(by_N), np.float32(0), np.float32("nan"))
    step_N[in_N] = step_n
    for said in begin_scores(out, record):
        screen.say(f"note: {said}")
    _write(out, scores, tables, step_N)
    return (
        f"{out}: of {tables.indexed:,} rows {cut.kept:,} took part, {keep:,} stay\n"
        f"select them:  selffilter select {out} OUT.npy --keep {COLUMN}:{settings.end:g}"
    )


def _scorer(
    tables: ScoreTables, embeddings: Embeddings, settings: EliminationSettings
) -> dict[str, Any]:
    return {
        "signals": [COLUMN],
        "elimination": {
            "kind": settings.kind,
            "by": settings.by,
            "from": settings.begin,
            "to": settings.end,
            "steps": settings.steps,
            "scorer": tables.records[0]["scorer"],
        },
        "embeddings": embeddings_record(embeddings),
    }


def _places(tables: ScoreTables, embeddings: Embeddings) -> NDArray[np.int64]:
    """Return where in the embeddings each row of the tables stands, (N,) int64; -1: nowhere.

    Raises:
        UserError: If they are not of the same rows.
    """
    other = UserError(
        f"{embeddings.folder} and {tables.folders[0]} are not of the same rows: score the "
        "embeddings themselves, or the pool that they are of."
    )
    if differences(tables.source, source_of(embeddings)):
        raise other
    row_P = np.concatenate([rows_of_part(embeddings, p) for p in range(len(embeddings.parts))])
    place_N = np.full(tables.indexed, -1, np.int64)
    place_N[row_P] = np.arange(len(row_P))
    place_N[~tables.there_N] = -1
    both = np.flatnonzero(place_N >= 0)
    if (embeddings.uids()[place_N[both]] != tables.uids_of(both)).any():
        raise other
    return place_N


def _features(
    embeddings: Embeddings, places: NDArray[np.int64], memory_gb: float, device: torch.device
) -> FeaturesOf:
    """Hold the rows that take part in memory if they fit; else read them from the disk each time.

    Raises:
        UserError: If they do not fit and are compressed: each reading would unpack everything.
    """
    a_row = embeddings.gather_raw("image", places[:1]).nbytes
    if a_row * len(places) <= memory_gb * 1e9:
        held_nD = embeddings.gather_raw("image", places)

        def from_memory(rows_n: NDArray[np.int64]) -> Tensor:
            at = torch.from_numpy(np.searchsorted(places, rows_n))
            return unit_norm(held_nD[at].to(device))

        return from_memory
    if any(array.offset is None for part in embeddings.parts for array in part.arrays.values()):
        raise UserError(
            f"{embeddings.folder}: the rows that take part need {a_row * len(places) / 1e9:.1f} GB "
            f"of memory, and --memory-gb is {memory_gb:g}. These files are compressed and cannot "
            "be read row by row: allow more, or write them anew uncompressed."
        )
    return lambda rows_n: embeddings.gather("image", rows_n, device)


def _write(out: Path, scores: Path, tables: ScoreTables, step_N: NDArray[np.float32]) -> None:
    """Write tables of the same rows as those of the scores."""
    for shard in range(tables.source["shards"]):
        theirs = read_table(shard_file(scores, shard), ["row", "uid", "failure"])
        rows_n = theirs["row"].to_numpy()
        false_n = pa.array(np.zeros(len(rows_n), bool))
        round_n = pa.array(np.full(len(rows_n), NO_ROUND, np.int32))
        columns = [theirs["row"], theirs["uid"], pa.array(step_N[rows_n]), theirs["failure"]]
        table = pa.Table.from_arrays(
            [*columns, false_n, false_n, round_n], schema=scores_schema([COLUMN], facts=())
        )
        write_table(shard_file(out, shard), table)
