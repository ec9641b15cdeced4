"""Selecting from a notebook: tables in, a table out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from selffilter.config import SelectConfig, load_selection
from selffilter.errors import UserError
from selffilter.pool import uids
from selffilter.selecting.choice import Candidates, Choice, choose
from selffilter.selecting.cuts import Rule
from selffilter.selecting.groups import Groups
from selffilter.selecting.order import UidsOf
from selffilter.standalone.folders import read_score_tables


def select(
    scores: Any,
    *,
    signal: str | None = None,
    seed: int = 0,
    round_: int = 0,
    samples: int | None = None,
    **settings: Any,
) -> pa.Table:
    """Select rows as a run does.

    ```python
    chosen = selffilter.select(frame, signal="cosine", keep_fraction=0.3, diverse_fraction=0.05)
    chosen.to_pandas()                       # or polars.from_arrow(chosen)
    selffilter.select("runs/demo/rounds/004/scores", confident="mixture", keep_fraction=0.8)
    ```

    Args:
        scores: A dataframe of pandas, of polars or whatever else speaks Arrow, with a column
            ``uid`` (32 hex digits, or 16 bytes) and one or more of numbers; or a folder of score
            tables.
        signal: The column to select by; None: the only column of floats that there is.
        seed: Of what is drawn.
        round_: Each draws anew; and which number counts, where a setting has one a round.
        samples: What is to be consumed, for ``weights="samples"``.
        **settings: Fields of `select` in a config: ``keep_fraction``, ``diverse_fraction``,
            ``confident``, ``cuts``, … `balance` and `diverse_by` are columns of the frame.

    Returns:
        A line a selected row, in their order: ``row`` (its number among those given), ``uid`` (32
        hex digits), ``weight``, ``share`` (confident or diverse), ``score``, ``rank``.

    Raises:
        UserError: If a column or a setting is none, or does not fit.
    """
    config = load_selection(fields=settings)
    if isinstance(scores, str | Path):
        tables = read_score_tables([Path(scores)])
        columns, base_N = tables.columns, tables.usable_N & ~tables.held_out_N
        groups = None
        uids_of: UidsOf = tables.uids_of
    else:
        frame = _table(scores)
        columns = {
            field.name: frame[field.name].to_numpy().astype(np.float32)
            for field in frame.schema
            if pa.types.is_floating(field.type)
        }
        every_uid = _uids(frame)
        base_N, groups = np.ones(len(frame), bool), frame
        uids_of = every_uid.__getitem__

    by = signal or (next(iter(columns)) if len(columns) == 1 else None)
    if by not in columns:
        known = ", ".join(columns) or "none"
        raise UserError(f"signal={by!r} is no column of scores; there are {known}: name one.")
    named = {rule.signal for rule in map(_rule, config.select.cuts)}
    if missing := named - set(columns):
        raise UserError(f"select.cuts names {min(missing)}, which is no column of scores.")
    choice = choose(
        Candidates(
            columns[by],
            base_N,
            uids_of,
            columns=columns,
            balance=_groups(groups, config.select.balance),
            strata=_groups(groups, config.select.diverse_by),
        ),
        config.select,
        seed=seed,
        round_=round_,
        samples=_samples(config.select, samples),
    )
    return _selected(choice, uids_of(choice.rows))


def _rule(words: str) -> Rule:
    return Rule.of_words(words, "select.cuts")


def _samples(select: SelectConfig, samples: int | None) -> int | None:
    if select.weights == "samples" and samples is None:
        raise UserError('weights="samples" needs samples=…: how many are to be consumed.')
    return samples


def _table(scores: Any) -> pa.Table:
    try:
        table = scores if isinstance(scores, pa.Table) else pa.table(scores)
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise UserError(
            f"scores is a {type(scores).__name__}: give a dataframe with a column uid and scores, "
            "or a folder of score tables."
        ) from error
    if "uid" not in table.column_names:
        raise UserError(f"the frame has no column uid; it has {', '.join(table.column_names)}.")
    return table.combine_chunks()


def _uids(frame: pa.Table) -> NDArray[np.uint64]:
    column = frame["uid"].combine_chunks()
    if pa.types.is_fixed_size_binary(column.type):
        return uids.from_arrow(column)
    try:
        return uids.from_hex(column.to_pylist())
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"uid holds {column.type} that are not 32 hex digits each.") from error


def _groups(frame: pa.Table | None, name: str | None) -> Groups | None:
    if name is None:
        return None
    if frame is None or name not in frame.column_names:
        raise UserError(f"there is no column {name!r} to group by; give a dataframe that has it.")
    column = frame[name].combine_chunks().cast(pa.string()).dictionary_encode()
    codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return Groups(name, codes.astype(np.int32), column.dictionary.to_pylist())


def _selected(choice: Choice, uids_K2: NDArray[np.uint64]) -> pa.Table:
    rows = choice.rows
    scores_K = choice.ranked_by_N[rows]
    return pa.table(
        {
            "row": pa.array(rows),
            "uid": pa.array(uids.to_hex(uids_K2)),
            "weight": pa.array(choice.weight_N[rows].astype(np.int32)),
            "share": pa.array(np.where(choice.confident_N[rows], "confident", "diverse")),
            "score": pa.array(scores_K),
            "rank": pa.array(choice.ranking.ranks(scores_K)),
        }
    )
