"""From finished runs to tidy tables: a row a number."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from selffilter.experiments.grid import END, Cell
from selffilter.experiments.planned import Grid
from selffilter.rundir.numbers import Row, final_numbers, last_selection, round_numbers
from selffilter.store import read_json

_CELL = [
    ("pool", pa.string()),
    ("noise", pa.string()),  # kind; null: nothing was planted
    ("rate", pa.float64()),  # share of the pool's rows
    ("method", pa.string()),
    ("seed", pa.int64()),
]
RESULTS = pa.schema(
    [
        *_CELL,
        ("set", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),  # after the last round; shares of 1
        ("samples_seen", pa.int64()),
        ("training_flops", pa.float64()),
        ("scoring_flops", pa.float64()),  # of the passes that training has used
        ("used_flops", pa.float64()),  # training and scoring of the runs that it is made from
        ("clean_share", pa.float64()),  # of all samples seen; null where the truth is not known
        ("precision", pa.float64()),  # of the last confident share
        ("auc", pa.float64()),  # of the last scores
    ]
)
"""``results.parquet``: a row for each finished run and evaluation number."""

ROUNDS = pa.schema(
    [
        *_CELL,
        ("round", pa.int64()),
        ("samples_seen", pa.int64()),
        ("set", pa.string()),  # null: the number is of the round's selection or training
        ("metric", pa.string()),
        ("value", pa.float64()),
    ]
)
"""``rounds.parquet``: a row for each round and number, of finished and unfinished runs."""


def collect(grid: Grid) -> tuple[pa.Table, pa.Table]:
    """Read what the asked runs of a grid have left so far.

    Returns:
        Tables with the schemas `RESULTS` and `ROUNDS`, in the order of the grid.
    """
    results: list[Row] = []
    rounds: list[Row] = []
    for job in grid.jobs:
        if not job.asked or job.until != END:
            continue
        store = grid.store(job.cell)
        axes = _axes(grid, job.cell)
        rounds += [axes | row for row in round_numbers(store)]
        if grid.is_finished(job.cell):
            results += [axes | row for row in _results(grid, job.cell)]
    return pa.Table.from_pylist(results, RESULTS), pa.Table.from_pylist(rounds, ROUNDS)


def _axes(grid: Grid, cell: Cell) -> Row:
    noise = grid.experiment.pool(cell.pool).noise
    return {
        "pool": cell.pool,
        "noise": noise.kind if noise else None,
        "rate": noise.rate if noise else None,
        "method": cell.method,
        "seed": cell.seed,
    }


def _results(grid: Grid, cell: Cell) -> Iterator[Row]:
    store = grid.store(cell)
    compute = read_json(store.final / "compute.json")
    last = last_selection(store)
    shared = {
        "samples_seen": compute["samples_seen"],
        "training_flops": compute["training_flops"],
        "scoring_flops": compute["scoring_flops"],
        "used_flops": _used_flops(grid, cell),
        "clean_share": compute.get("clean_share"),
        "precision": last.get("precision"),
        "auc": last.get("auc"),
    }
    for (set_, metric), value in final_numbers(store).items():
        yield shared | {"set": set_, "metric": metric, "value": value}


def _used_flops(grid: Grid, cell: Cell) -> float:
    """Sum the compute of the runs that a run is made from, and of those that they are made from."""
    known = grid.experiment.known_methods()
    total, todo, seen = 0.0, list(known[cell.method].uses), set[str]()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        todo += known[name].uses
        other = Cell(cell.pool, name, cell.seed)
        total += read_json(grid.store(other).final / "compute.json")["training_flops"]
        # The last pass counts here: what is made from a run is made from its final selection.
        total += grid.outlook(other, grid.config(other)).scoring_flops
    return total
