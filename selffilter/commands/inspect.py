"""`selffilter why`, `compare`, `report`: about samples of a run, several runs, a run as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selffilter.errors import UserError

app = typer.Typer(rich_markup_mode=None)


@app.command()
def why(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    uid: Annotated[
        list[str] | None, typer.Argument(metavar="[UID]...", help="32 hex digits each.")
    ] = None,
    row: Annotated[
        list[int] | None, typer.Option(help="A row's number in the pool's index; again for more.")
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(metavar="SHARD/KEY", help="Where a sample stands; KEY if one has it alone."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Say what became of samples in each round of a run, and why."""
    from selffilter.asking.why import run_why
    from selffilter.tracking.console import Screen

    if not (uid or row or key):
        raise UserError("name a sample: by its UID, or with --row or --key.")
    run_why(run_dir, uid or [], row or [], key or [], as_json=json, screen=Screen())


@app.command()
def compare(
    paths: Annotated[
        list[Path], typer.Argument(metavar="A B...", help="Run directories and subset files.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="A folder for compare.html, compare.json, plots and contact sheets."),
    ] = None,
    round_: Annotated[
        int | None, typer.Option("--round", help="Whose selection, of runs; the last of each.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="Of the evaluation sets, to show; the first of each.")
    ] = None,
    samples: Annotated[int, typer.Option(help="How many a contact sheet shows; 0: none.")] = 48,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Set runs and subsets beside each other: what they keep, how they score, what came of it."""
    from selffilter.comparing.command import run_compare
    from selffilter.tracking.console import Screen

    if samples < 0:
        raise UserError(f"--samples {samples}: a sheet shows no fewer than 0.")
    run_compare(
        paths,
        out,
        round_=round_,
        metric=metric,
        samples=samples,
        as_json=json,
        screen=Screen(),
    )


@app.command()
def report(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The page; RUN/report.html.")
    ] = None,
    samples: Annotated[int, typer.Option(help="How many a contact sheet shows; 0: none.")] = 24,
) -> None:
    """Write a run, finished or not, as one HTML page: what it keeps and drops, and how it went."""
    from selffilter.reporting.command import run_report
    from selffilter.tracking.console import Screen

    run_report(run_dir, out, samples=samples, screen=Screen())
