"""Scoring embeddings that are ready: no model, no images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from selffilter.interrupt import StopRequest
from selffilter.pool import uids
from selffilter.scoring.embeddings.embeddings import Embeddings
from selffilter.scoring.ready import score_embeddings
from selffilter.scoring.signals.facts import Facts
from selffilter.standalone.ready_facts import permuted_file, prepare, read_facts, usable_file
from selffilter.standalone.ready_scorer import ReadyScorer, source_of
from selffilter.standalone.record import NO_ROUND, begin_scores, make_record
from selffilter.standalone.settings import PERMUTATION, ScoreSettings
from selffilter.standalone.sharing import counting, deal
from selffilter.tables import read_table, scores_schema, shard_file, write_table
from selffilter.team import Team
from selffilter.tracking.console import Screen


def score_ready(
    folder: Path,
    out: Path,
    settings: ScoreSettings,
    team: Team,
    screen: Screen,
    stop: StopRequest,
) -> None:
    """Score the parts of a folder of embeddings whose files are not there.

    Raises:
        UserError: If something that is named is not there or does not fit.
        Stopped: If asked to; what is scored stays.
    """
    asked = ReadyScorer.open(folder, out, settings, team.device)
    parts = asked.embeddings.parts
    source = source_of(asked.embeddings)
    record = make_record(source, asked.record(), settings.seed, team.device.type)
    for said in team.decide(lambda: begin_scores(out, record)):
        screen.say(f"note: {said}")
    team.decide(lambda: prepare(asked, team.device, screen, stop))
    facts = read_facts(asked, team.device)
    mine = deal(len(parts), settings.part, team, lambda part: shard_file(out, part).exists())
    with screen.bar("score", sum(parts[place].rows for place in mine)) as bar:
        for place in mine:
            table = _score_part(asked, place, facts, team.device, counting(bar, stop))
            write_table(shard_file(out, place), table)


def rows_of_part(embeddings: Embeddings, place: int) -> NDArray[np.int64]:
    """Return the rows of a part as score tables number them: of their pool, or counted through."""
    if embeddings.description["format"] == "selffilter":
        rows_n: NDArray[np.int64] = read_table(embeddings.parts[place].table, ["row"])[
            "row"
        ].to_numpy()
        return rows_n
    return np.arange(*embeddings.first_row[place : place + 2], dtype=np.int64)


def _score_part(
    asked: ReadyScorer,
    place: int,
    facts: Facts,
    device: torch.device,
    progress: Callable[[int], None],
) -> pa.Table:
    embeddings, settings = asked.embeddings, asked.settings
    begin, end = (int(bound) for bound in embeddings.first_row[place : place + 2])
    part = embeddings.parts[place]
    columns: dict[str, NDArray[np.float32]] = {}
    reason_n = np.zeros(part.rows, np.uint8)
    if asked.looks_at_embeddings:
        reason_n = np.array(np.load(usable_file(asked.out), mmap_mode="r")[begin:end])
    if asked.signals:
        columns = score_embeddings(
            embeddings,
            asked.signals,
            facts,
            reason_n == 0,
            span=(begin, end),
            reference=asked.reference,
            device=device,
            progress=progress,
        )
    else:
        progress(part.rows)
    if asked.permutes:
        columns[PERMUTATION] = np.array(np.load(permuted_file(asked.out), mmap_mode="r")[begin:end])
    for name in settings.columns:
        taken_n = np.empty(0, np.float32)
        if part.rows:
            alone = Embeddings(embeddings.folder, [part], embeddings.description)
            taken_n = alone.column(name)
        is_number_n = np.isfinite(taken_n) & (reason_n == 0)
        columns[name] = np.where(is_number_n, taken_n, np.float32("nan"))
    names = [*settings.signals, *settings.columns]
    false_n = pa.array(np.zeros(part.rows, bool))
    return pa.Table.from_arrays(
        [
            pa.array(rows_of_part(embeddings, place)),
            uids.to_arrow(part.uids()),
            *(pa.array(columns[name]) for name in names),
            pa.array(reason_n),
            false_n,
            false_n,
            pa.array(np.full(part.rows, NO_ROUND, np.int32)),
        ],
        schema=scores_schema(names, facts=()),
    )
