"""What a person reads on a terminal: tables of what was gathered."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from selffilter.comparing.arm_numbers import Measure, main_metric, paired, plus_minus, points
from selffilter.comparing.gather import Gathered, Pair
from selffilter.comparing.sides import Side
from selffilter.pool.multiset import Comparison

_MOST_COLUMNS = 9
"""Of numbers of rounds: more are a table for each number."""
_MOST_GROUPS = 3
"""Of a grouping."""
_MOST_PAIRS = 6
"""More of them are not spelt out on the terminal; ``compare.json`` has them all."""
_OF_A_ROUND = (("precision", "precision"), ("auc", "AUC"), ("overlap", "overlap"))
_SHOWN_OF_A_SET = ("mean_per_class_recall", "mean_reciprocal_rank")
COMPUTE = (
    ("samples_seen", "samples seen"),
    ("training_flops", "FLOPs of training"),
    ("scoring_passes", "scoring passes used"),
    ("scoring_flops", "FLOPs of scoring"),
    ("clean_share", "clean share of samples seen"),
)
"""What a run has cost: key of its account, and what it is."""


def tables(found: Gathered) -> Iterator[Table]:
    """Yield the tables, the most important first; those that would be empty are left out."""
    runs = found.runs
    yield _sides(found)
    if len(found.sides) * (len(found.sides) - 1) // 2 <= _MOST_PAIRS:
        yield _pairs_of_kept(found)
    else:
        yield matrix("Jaccard index of what they keep", found.sides, found.kept)
    both = [p for p in found.pairs if p.a.keeps_by_score and p.b.keeps_by_score and p.rounds]
    yield from (_rounds_of_pair(pair) for pair in both[:_MOST_PAIRS])
    if len(runs) > 1:
        yield from _some(*_on_the_way(found))
        shown = (_finals, _arms, _differences, _alarms, _groups, _compute, _config)
        yield from _some(*(make(found) for make in shown))


def matrix(title: str, sides: Sequence[Side], found: Comparison) -> Table:
    """Return a Jaccard matrix."""
    table = _table(title, ["", *(side.letter for side in sides)])
    for side, row in zip(sides, found.jaccard_KK.tolist(), strict=True):
        _add(table, [side.label, *(f"{x:.3f}" for x in row)])
    return table


def confident_title(sides: Sequence[Side]) -> str:
    """Name what is compared of sides some of which keep rows for their score."""
    others = ", ".join(side.letter for side in sides if not side.keeps_by_score)
    return "confident rows" + (f", all of {others}" if others else "")


def sets_of(found: Gathered) -> list[str]:
    """Return the evaluation sets that some run was evaluated on."""
    names = (row["set"] for rows in found.numbers.values() for row in rows if row["set"])
    return list(dict.fromkeys(names))


def cost(key: str, value: Any) -> str:
    """Write a number of what a run has cost."""
    return _number(value, ".3g" if "flops" in key else ".3f" if key == "clean_share" else ",")


def _sides(found: Gathered) -> Table:
    table = _table("What is compared", ["", "", "uids", "samples", "confident"])
    for side in found.sides:
        what = str(side.path)
        if side.run is not None:
            what += f", selection of round {side.round}"
        chosen = f"{len(side.chosen):,}" if side.keeps_by_score else "–"
        sizes = [f"{len(side.kept):,}", f"{side.kept.samples:,}", chosen]
        _add(table, [side.letter, what, *sizes], left=2)
    return table


def _pairs_of_kept(found: Gathered) -> Table:
    heads = ["", "in both", "only first", "only second", "Jaccard", "confident: Jaccard"]
    table = _table("What they keep (samples)", heads)
    kept, chosen = found.kept, found.chosen
    for j, b in enumerate(found.sides):
        for i, a in enumerate(found.sides[:j]):
            both = int(kept.overlap_KK[i, j])
            cells = [both, int(kept.samples_K[i]) - both, int(kept.samples_K[j]) - both]
            _add(
                table,
                [f"{a.letter} and {b.letter}", *(f"{n:,}" for n in cells)]
                + [f"{float(x[i, j]):.3f}" for x in (kept.jaccard_KK, chosen.jaccard_KK)],
            )
    if len(found.sides) > 2:
        _add(table, ["all of them", f"{found.in_all:,} uids", "", "", "", ""])
        _add(table, ["any of them", f"{found.in_any:,} uids", "", "", "", ""])
    return table


def _rounds_of_pair(pair: Pair) -> Table:
    a, b = pair.a.letter, pair.b.letter
    heads = ["round", "in both", f"only {a}", f"only {b}", "Jaccard", "all selected: Jaccard"]
    heads += ["Spearman", "largest difference"]
    table = _table(f"{pair.a.label} and {pair.b.label}: confident rows, and scores", heads)
    for row in pair.rounds:
        confident = row["confident"]
        _add(
            table,
            [f"{row['round']}"]
            + [f"{confident[key]:,}" for key in ("both", "only_a", "only_b")]
            + [_number(confident["jaccard"]), _number(row["selected"]["jaccard"])]
            + [_number(row["spearman"]), _number(row["largest_score_difference"], ".3g")],
            left=0,
        )
    return table


def _on_the_way(found: Gathered) -> Iterator[Table]:
    """Set the runs' rounds beside each other, where the summaries have more than their counts."""
    values = {
        (row["metric"], letter, row["round"]): row["value"]
        for letter, rows in found.numbers.items()
        for row in rows
        if row["set"] is None
    }
    columns = [
        (key, name, letter)
        for key, name in _OF_A_ROUND
        for letter in found.numbers
        if any((key, letter) == known[:2] for known in values)
    ]
    several = len(columns) > _MOST_COLUMNS
    for shown in _by_name(columns) if several else [columns]:
        title = f"On the way: {shown[0][1]}" if several else "On the way"
        heads = [letter if several else f"{letter} {name}" for _, name, letter in shown]
        table = _table(title, ["round", *heads])
        for round_ in sorted({round_ for *_, round_ in values}):
            cells = [_number(values.get((key, letter, round_))) for key, _, letter in shown]
            if any(cell != "–" for cell in cells):
                _add(table, [str(round_), *cells], left=0)
        yield table


_Column = tuple[str, str, str]


def _by_name(columns: Sequence[_Column]) -> list[list[_Column]]:
    return [
        some
        for key, _ in _OF_A_ROUND
        if (some := [column for column in columns if column[0] == key])
    ]


def _finals(found: Gathered) -> Table:
    table = _table("Evaluated last (%)", ["", *found.numbers])
    last = [side.last_numbers(found.numbers[side.letter]) for side in found.runs]
    for set_ in sets_of(found):
        every = [row for rows in found.numbers.values() for row in rows]
        for metric in dict.fromkeys([main_metric(every, set_), *_SHOWN_OF_A_SET]):
            values = [numbers.get((set_, metric), {}).get("value") for numbers in last]
            if any(value is not None for value in values):
                shown = [_number(None if v is None else 100 * v, ".1f") for v in values]
                _add(table, [f"{set_}: {metric.replace('_', ' ')}", *shown])
    return table


def _arms(found: Gathered) -> Table:
    """Set arms beside each other; of one seed each, they are said already."""
    title = "Arms: runs that differ in their seed alone (mean ± standard deviation over seeds)"
    arms = [arm for arm in found.arms if arm.is_runs]
    table = _table(title, ["", "runs", "seeds", *(_head(m) for m in found.measures)])
    if any(len(arm.sides) > 1 for arm in arms):
        for arm in arms:
            cells = [plus_minus(m.spreads.get(arm.number), percent=m.percent)
                     for m in found.measures]  # fmt: skip
            seeds = " ".join(map(str, arm.seeds))
            _add(table, [arm.name, arm.letters, seeds, *cells], left=3)
    return table


def _differences(found: Gathered) -> Table:
    table = _table("Differences, seed by seed", ["", "", "seeds", "difference", "95 % (t)"])
    name = {arm.number: arm.name for arm in found.arms}
    for measure in found.measures:
        for one in paired(measure, found.arms):
            low, high = (points(x, measure.percent) for x in one.difference.t_interval)
            if one.difference.seeds > 1:
                interval = "–" if math.isnan(one.difference.t_interval[0]) else f"{low} to {high}"
                cells = [f"{name[one.of]} − {name[one.versus]}", _head(measure)]
                mean = points(one.difference.mean, measure.percent)
                _add(table, [*cells, str(one.difference.seeds), mean, interval], left=2)
    return table


def _head(measure: Measure) -> str:
    return measure.title + " (%)" * measure.percent


def _alarms(found: Gathered) -> Table:
    table = _table("The guard's alarms", ["", "rounds", "bounds not kept"])
    for side in found.runs:
        if alarms := found.alarms[side.letter]:
            rounds = " ".join(str(r) for r in dict.fromkeys(alarm["round"] for alarm in alarms))
            names = ", ".join(dict.fromkeys(alarm["name"] for alarm in alarms))
            _add(table, [side.label, rounds, names], left=3)
    return table


def _groups(found: Gathered) -> Table:
    """Name the groups where arms differ most; an average row is selected 1 time."""
    arms = [arm for arm in found.arms if arm.is_runs]
    title = "Selected, relative to the average row: groups where arms differ most"
    table = _table(title, ["", "rows", *(arm.name for arm in arms)])
    for favours in found.favours:
        for group in favours.shown[:_MOST_GROUPS]:
            rates = [plus_minus(group.rates.get(a.number), percent=False, places=2) for a in arms]
            _add(table, [f"{favours.grouping}: {group.name}", f"{group.rows:,}", *rates])
    return table


def _compute(found: Gathered) -> Table:
    table = _table("What it has cost", ["", *found.compute])
    for key, name in COMPUTE:
        values = [spent.get(key) for spent in found.compute.values()]
        if any(value is not None for value in values):
            _add(table, [name, *(cost(key, value) for value in values)])
    return table


def _config(found: Gathered) -> Table:
    """Name the fields; by arms where these are fewer than the runs."""
    arms = [arm for arm in found.arms if arm.is_runs]
    if len(arms) < len(found.runs):
        heads, fields = [arm.name for arm in arms], found.arm_config
    else:
        heads, fields = [side.letter for side in found.runs], found.config
    table = _table("Where their configs differ", ["", *heads])
    for key, values in fields.items():
        _add(table, [key, *(str(value) for value in values)], left=len(values) + 1)
    return table


def _some(*some: Table) -> Iterator[Table]:
    yield from (table for table in some if table.row_count)


def _table(title: str, heads: Sequence[str]) -> Table:
    table = Table(
        title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False
    )
    for head in heads:
        table.add_column(Text(head), overflow="fold")
    return table


def _add(table: Table, cells: Sequence[str], left: int = 1) -> None:
    """Add a row; the first `left` cells are words, the others numbers. Nothing is markup."""
    table.add_row(
        *(Text(cell, justify="left" if k < left else "right") for k, cell in enumerate(cells))
    )


def _number(value: Any, spec: str = ".3f") -> str:
    return "–" if value is None else format(value, spec)
