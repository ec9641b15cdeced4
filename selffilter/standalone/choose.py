"""`selffilter select --config`: what a run's selection does, from any score tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import selffilter
from selffilter.config import Config
from selffilter.errors import UserError
from selffilter.pool.multiset import subset_of
from selffilter.pool.subset import check_subset_name, write_subset_file
from selffilter.selecting.choice import Candidates, Choice, choose
from selffilter.selecting.cuts import Rule
from selffilter.selecting.facts import FACT_GROUPINGS, read_fact_groups
from selffilter.selecting.groups import Groups
from selffilter.selecting.on_disk import write_selection
from selffilter.selecting.scratch import Scratch
from selffilter.standalone.folders import ScoreTables, read_score_tables
from selffilter.store import write_json


def run_choice(
    folders: list[Path],
    out: Path,
    config: Config,
    *,
    signal: str | None = None,
    round_: int = 0,
    samples: int | None = None,
) -> str:
    """Select as a run would, and write the selection and the record of how.

    Args:
        folders: See `read_score_tables`.
        out: A subset file; beside it ``OUT.json``. Or a folder, as a run's ``selection/``: a table
            a shard that says of each row why it is there, ``subset.npy`` and ``summary.json``.
        config: Its `select`, `seed` and `score.signal` are used.
        signal: What to select by; None: `score.signal`, or the only column there is.
        round_: Which of the numbers, where there is one a round; each draws anew.
        samples: What is to be consumed, for ``select.weights=samples``.

    Returns:
        The account, for the user.

    Raises:
        UserError: If the folders do not fit together, or the config asks for what they lack.
    """
    if out.suffix:
        check_subset_name(out)
    settings = config.select
    if settings.weights == "samples" and samples is None:
        raise UserError("select.weights=samples needs --samples: how many are to be consumed.")
    _refuse_what_needs_images(config)
    with_files = Scratch(settings.memory_gb * 1e9)
    tables = read_score_tables(folders, with_files)
    by = signal or (next(iter(tables.columns)) if len(tables.columns) == 1 else config.score.signal)
    rules = [Rule.of_words(words, "select.cuts") for words in settings.cuts]
    candidates = Candidates(
        tables.column(by),
        tables.usable_N & ~tables.held_out_N,
        tables.uids_of,
        columns={rule.signal: tables.column(rule.signal) for rule in rules},
        balance=_groups(tables, settings.balance),
        strata=_groups(tables, settings.diverse_by),
    )
    choice = choose(
        candidates, settings, seed=config.seed, round_=round_, samples=samples, scratch=with_files
    )
    record = _record(tables, config, by, round_, samples, choice)
    if out.suffix:
        rows = choice.rows
        write_subset_file(
            out, subset_of(tables.uids_of(rows), choice.weight_N[rows].astype(np.int64))
        )
        write_json(out.with_name(f"{out.name}.json"), record)
    else:
        write_selection(out, choice, tables, round_, scratch=with_files)
        write_json(out / "summary.json", record)
    return _account(tables, by, choice, out)


def _refuse_what_needs_images(config: Config) -> None:
    select = config.select
    asked = {
        "select.clusters": select.clusters,
        "select.duplicates": 0 if select.duplicates == "keep" else select.duplicates,
        "select.without": select.without,
    }
    for key, value in asked.items():
        if value:
            raise UserError(
                f"{key}={value} needs the embeddings or images of a run; score tables alone do "
                "not have them."
            )


def _groups(tables: ScoreTables, name: str | None) -> Groups | None:
    """Return a grouping that score tables tell.

    Raises:
        UserError: If they do not.
    """
    if name is None:
        return None
    if name not in FACT_GROUPINGS:
        raise UserError(
            f"score tables do not tell the grouping {name!r}: they have "
            f"{' and '.join(FACT_GROUPINGS)}."
        )
    return read_fact_groups(tables.folders[0], tables, name)


def _record(
    tables: ScoreTables,
    config: Config,
    signal: str,
    round_: int,
    samples: int | None,
    choice: Choice,
) -> dict[str, Any]:
    return {
        "selffilter": selffilter.__version__,
        "source": tables.source,
        "scorers": [
            {"folder": str(folder), "scorer": record["scorer"]}
            for folder, record in zip(tables.folders, tables.records, strict=True)
        ],
        "signal": signal,
        "seed": config.seed,
        "round": round_,
        "samples": samples,
        "select": vars(config.select),
        "counts": choice.counts(),
    }


def _account(tables: ScoreTables, signal: str, choice: Choice, out: Path) -> str:
    counts = choice.counts()
    lines = [
        f"{tables.indexed:>13,}  indexed",
        f"{counts['base']:>13,}  base: usable, and no probe",
        f"{counts['scored_base']:>13,}  of them with a {signal}",
        *(
            f"{cut['kept']:>13,}  left by {cut['rule']} {cut['signal']}:{cut['value']:g}"
            for cut in counts.get("cuts", ())
        ),
        f"{counts['confident']:>13,}  confident (lowest {counts['threshold']:.6g})",
        f"{counts['diverse']:>13,}  diverse, of {counts['diverse_drawn']:,} drawn",
        f"{counts['selected']:>13,}  selected: {counts['selected'] / max(1, tables.indexed):.4f} "
        f"of the pool, {counts['selected_samples']:,} samples a pass",
        "",
        str(out),
    ]
    return "\n".join(lines)
