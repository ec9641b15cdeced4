"""`selffilter select`: from score tables to a subset, by rules, with an account of every row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

import selffilter
from selffilter.errors import UserError
from selffilter.pool.multiset import subset_of
from selffilter.pool.subset import check_subset_name, write_subset_file
from selffilter.selecting.combine import How, rank_ensemble
from selffilter.selecting.cuts import Cut, Of, Rule, apply_rules
from selffilter.standalone.folders import ScoreTables, read_score_tables, reasons_of
from selffilter.store import write_json


@dataclass(frozen=True)
class Ensemble:
    """A column made of others by their ranks.

    Attributes:
        name: Of the new column.
        how: mean or min.
        signals: Of what.
    """

    name: str
    how: How
    signals: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Ensemble:
        """Read HOW:SIGNAL,SIGNAL=NAME.

        Raises:
            UserError: If it is none.
        """
        what, equals, name = text.rpartition("=")
        how, colon, listed = what.partition(":")
        signals = tuple(filter(None, listed.split(",")))
        if not (equals and name and colon and how in ("mean", "min") and len(signals) > 1):
            raise UserError(
                f"--ensemble {text} is not HOW:SIGNAL,SIGNAL=NAME, where HOW is mean or min."
            )
        return cls(name, cast(How, how), signals)


def run_select(
    folders: list[Path],
    out: Path,
    rules: list[Rule],
    *,
    ensembles: Sequence[Ensemble] = (),
    of: Of = "indexed",
) -> str:
    """Select, and write the uids and the record of how.

    Args:
        folders: See `read_score_tables`.
        out: A subset file; beside it ``OUT.json``.
        rules: In order.
        ensembles: Columns to make first.
        of: What fractions are of.

    Returns:
        The account, for the user.

    Raises:
        UserError: If the folders do not fit together, or a rule cannot be applied.
    """
    check_subset_name(out)
    if not rules:
        raise UserError("say what to select by: --keep, --above or --top SIGNAL:VALUE.")
    tables = read_score_tables(folders)
    usable_N = tables.usable_N
    for ensemble in ensembles:
        _add(tables, ensemble, usable_N)
    columns = {rule.signal: tables.column(rule.signal) for rule in rules}
    base = tables.indexed if of == "indexed" else int(usable_N.sum())
    kept_N, cuts = apply_rules(columns, usable_N, rules, tables.uids_of, base)
    subset = subset_of(tables.uids_of(np.flatnonzero(kept_N)))
    record = _record(tables, ensembles, of, base, cuts, int(kept_N.sum()))
    write_subset_file(out, subset)
    write_json(out.with_name(f"{out.name}.json"), record)
    return _account(tables, out, of, base, cuts, record)


def _add(tables: ScoreTables, ensemble: Ensemble, usable_N: NDArray[np.bool_]) -> None:
    if ensemble.name in tables.columns:
        raise UserError(f"--ensemble …={ensemble.name}: there is a column of that name already.")
    parts = [tables.column(signal) for signal in ensemble.signals]
    # Ranks among the rows that can be selected.
    parts = [np.where(usable_N, part, np.float32("nan")) for part in parts]
    tables.columns[ensemble.name] = rank_ensemble(parts, ensemble.how)


def _record(
    tables: ScoreTables,
    ensembles: Sequence[Ensemble],
    of: Of,
    base: int,
    cuts: list[Cut],
    kept: int,
) -> dict[str, Any]:
    reasons = reasons_of(tables.failure_N)
    return {
        "selffilter": selffilter.__version__,
        "source": tables.source,
        "scorers": [
            {"folder": str(folder), "scorer": record["scorer"]}
            for folder, record in zip(tables.folders, tables.records, strict=True)
        ],
        "ensembles": [vars(ensemble) for ensemble in ensembles],
        "fractions_of": of,
        "base": base,
        "rules": [cut.record() for cut in cuts],
        "account": {
            "indexed": tables.indexed,
            "kept": kept,
            "cut": [cut.cut for cut in cuts],
            "unusable": reasons,
            "not_scored": tables.indexed
            - int(tables.there_N.sum())
            + sum(cut.no_score for cut in cuts),
        },
    }


def _account(
    tables: ScoreTables, out: Path, of: Of, base: int, cuts: list[Cut], record: dict[str, Any]
) -> str:
    lines = []
    for folder, of_folder in zip(tables.folders, tables.records, strict=True):
        lines.append(f"{folder}: {_scorer(of_folder['scorer'])}")
    what = "all indexed rows" if of == "indexed" else "the usable rows"
    account = record["account"]
    lines += [
        f"fractions are of {what}: {base:,}",
        "",
        f"{tables.indexed:>13,}  indexed",
    ]
    lines += [f"{-count:>13,}  {reason}" for reason, count in sorted(account["unusable"].items())]
    if account["not_scored"]:
        lines.append(f"{-account['not_scored']:>13,}  without a score")
    for cut in cuts:
        lowest = "" if np.isnan(cut.lowest) else f" (lowest kept {cut.lowest:.6g})"
        lines.append(f"{-cut.cut:>13,}  cut by {cut.rule}{lowest}")
    lines += [
        f"{account['kept']:>13,}  kept: {account['kept'] / max(1, tables.indexed):.4f} of the pool",
        "",
        f"{out}, and how in {out.name}.json",
    ]
    return "\n".join(lines)


def _scorer(scorer: dict[str, Any]) -> str:
    """Return a line about a scorer."""
    signals = ", ".join(scorer["signals"])
    if "run" in scorer:
        return f"{signals} of run {scorer['run']}, round {scorer['round']}"
    if "elimination" in scorer:
        return f"{signals} from {_scorer(scorer['elimination']['scorer'])}"
    if isinstance(model := scorer.get("model"), dict):
        return f"{signals} by {model['name']} ({model['fingerprint'][:8]})"
    if isinstance(embeddings := scorer.get("embeddings"), dict):
        who = " ".join(str(embeddings[k]) for k in ("format", "model") if k in embeddings)
        return f"{signals} of embeddings {embeddings['location']} ({who})"
    return signals
