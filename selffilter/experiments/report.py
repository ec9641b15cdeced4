"""What an experiment leaves: results.parquet, rounds.parquet, tables.json, report.md, figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from selffilter.comparing.seeds import CONFIDENCE, FEW_SEEDS
from selffilter.experiments.analysis import GAP_IN_STANDARD_ERRORS
from selffilter.experiments.collecting import collect
from selffilter.experiments.comparing import Line, compare, is_asked
from selffilter.experiments.controls import LOOP
from selffilter.experiments.planned import Grid
from selffilter.experiments.schema import Experiment, PoolSpec
from selffilter.experiments.writing import (
    costs_table,
    headline,
    markdown_table,
    overview_table,
    results_table,
)
from selffilter.store import write_json, write_text
from selffilter.tables import write_table


def write_report(grid: Grid, command: str) -> Path | None:
    """Write what is finished so far.

    Args:
        grid: All of the experiment.
        command: What runs it.

    Returns:
        Path of the report; None if no run is finished.
    """
    experiment, root = grid.experiment, grid.experiment.root
    results, rounds = collect(grid)
    if not results.num_rows:
        return None
    write_table(root / "results.parquet", results)
    write_table(root / "rounds.parquet", rounds)
    lines = compare(results, experiment.asked_methods(), experiment.bootstrap_resamples)
    write_json(root / "tables.json", [line.as_json() for line in lines])
    figures = _draw(grid, results, rounds, lines)
    parts = [f"# {experiment.name}", experiment.about, _set_up(grid, command)]
    for pool in experiment.pools:
        parts += _pool(experiment, pool, lines, figures.get(pool.name, ""))
    parts.append(_how_to_read(experiment))
    write_text(root / "report.md", "\n\n".join(part for part in parts if part) + "\n")
    return root / "report.md"


def primary_of(lines: Sequence[Line], pool: str, primary: str) -> tuple[str, str] | None:
    """Return set and metric of the headline on a pool: the first that has the name."""
    named = [
        (x.set, x.metric)
        for x in lines
        if x.pool == pool and primary in (x.metric, f"{x.set}/{x.metric}")
    ]
    return named[0] if named else None


def _set_up(grid: Grid, command: str) -> str:
    experiment, known = grid.experiment, grid.experiment.known_methods()
    runs = [job.cell for job in grid.jobs if job.asked]
    done = sum(grid.is_finished(cell) for cell in runs)
    facts = [
        f"{done} of {len(runs)} runs finished: {len(experiment.asked_methods())} methods × "
        f"{len(experiment.seeds)} seeds ({', '.join(map(str, experiment.seeds))}) × "
        f"{len(experiment.pools)} pools.",
        f"Base config `{experiment.config}`"
        + (f", changed: `{' '.join(experiment.overrides)}`." if experiment.overrides else "."),
        f"Command: `{command}`.",
    ]
    body = []
    for name in experiment.asked_methods():
        method = known[name]
        changes = ", ".join(f"`{k}={json.dumps(v)}`" for k, v in method.changes.items())
        body.append([name, method.about, method.start, changes or "–"])
    table = markdown_table(["method", "what it is", "begins with", "changes"], body, right=False)
    listed = "\n".join(f"- {fact}" for fact in facts)
    return f"## Set-up\n\n{listed}\n\n{table}"


def _pool(experiment: Experiment, pool: PoolSpec, lines: Sequence[Line], figure: str) -> list[str]:
    here = [line for line in lines if line.pool == pool.name]
    if not here:
        return [f"## {pool.name}", "No run is finished."]
    parts = [f"## {pool.name}", _about_pool(pool)]
    primary = primary_of(lines, pool.name, experiment.primary)
    if primary is None:
        names = sorted({f"{line.set}/{line.metric}" for line in here})
        parts.append(f"There is no {experiment.primary} here; there are {', '.join(names)}.")
        primary = (here[0].set, here[0].metric)
    chosen = [line for line in here if (line.set, line.metric) == primary]
    parts += [
        headline(chosen, LOOP),
        figure,
        f"### {primary[0]}: {primary[1]}",
        results_table(chosen),
    ]
    parts += ["### Compute and data", costs_table(chosen)]
    for set_ in dict.fromkeys(line.set for line in here):
        asked = [x for x in here if x.set == set_ and is_asked(set_, x.metric, experiment.metrics)]
        if asked:
            parts += [f"### {set_}: all numbers, mean ± sd in %", overview_table(asked)]
    named = {name for line in here for name in (line.metric, f"{line.set}/{line.metric}")}
    if strangers := [name for name in experiment.metrics if name not in named]:
        parts.append(f"Asked for, but not measured: {', '.join(strangers)}.")
    return parts


def _about_pool(pool: PoolSpec) -> str:
    source = f"the demo's {pool.demo}" if pool.demo else ", ".join(f"`{s}`" for s in pool.shards)
    if pool.noise is None:
        return f"Pool: {source}, taken as it is."
    return (
        f"Pool: {source}; {pool.noise.kind} planted in {100 * pool.noise.rate:g} % of the rows, "
        "with the seed of the run."
    )


def _draw(grid: Grid, results: pa.Table, rounds: pa.Table, lines: Sequence[Line]) -> dict[str, str]:
    """Write a figure a pool; return what the report says there."""
    # Slow to import, and asked for once a minute at most.
    from selffilter.experiments.figures import pool_figure
    from selffilter.theory import plotting

    experiment, drawn = grid.experiment, {}
    known = experiment.known_methods()
    for pool in experiment.pools:
        primary = primary_of(lines, pool.name, experiment.primary)
        if primary is None:
            continue
        figure = pool_figure(
            results.to_pylist(),
            rounds.to_pylist(),
            pool=pool.name,
            set_=primary[0],
            metric=primary[1],
            methods=experiment.asked_methods(),
            scored_by_themselves=[
                name
                for name in experiment.asked_methods()
                if known[name].changes.get("score.signal") != "given"
            ],
        )
        plotting.save(figure, experiment.root, pool.name)
        drawn[pool.name] = f"![{pool.name}: {'/'.join(primary)} by method]({pool.name}.png)"
    return drawn


def _how_to_read(experiment: Experiment) -> str:
    few = (
        f" With {FEW_SEEDS} seeds or fewer the bootstrap interval is left out, for it would mean "
        "nothing, and the t interval is as wide as ignorance is."
        if len(experiment.seeds) <= FEW_SEEDS
        else " Go by t where seeds are few: of normal differences the percentiles hold the true "
        "mean in 80 % of cases with 4 seeds, 84 % with 5, 90 % with 10; t in 95 %."
    )
    return (
        "## How to read it\n\n"
        "- Values are those after the last round, in percent. Differences are paired: seed by "
        "seed, with the same noise, the same first weights and the same order.\n"
        f"- Intervals: {100 * CONFIDENCE:g} %, by Student's t over the seeds' differences, and "
        f"percentiles of {experiment.bootstrap_resamples:,} resamples of the seeds (drawn by a "
        f"hash of their numbers: the same each time).{few}\n"
        "- Gap closed: (method − uniform) / (oracle − uniform), a ratio of means over seeds. It "
        f"is given only where the gap is at least {GAP_IN_STANDARD_ERRORS:g} standard errors of "
        "its paired mean.\n"
        "- Equal compute: `uniform_equal_compute` trains on for what the loop's scoring passes "
        "cost. FLOPs are those of training and of the passes it has used; 'runs it is made from' "
        "are counted whole.\n"
        "- AUC and precision are measured against what was planted; a pool's own noise counts as "
        "clean there."
    )
