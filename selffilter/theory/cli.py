"""The command: names of experiments in, figures, numbers and a report out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from selffilter.theory.experiments import EXPERIMENTS, REPRODUCTION, Effort
from selffilter.theory.report import write_experiment, write_report


def run_theory(
    out: Path,
    *,
    experiments: list[str] | None = None,
    seeds: int = 0,
    workers: int = 1,
    quick: bool = False,
) -> Path:
    """Run experiments of the linear theory and write their report.

    Args:
        out: folder for the files; made if missing, files of the same names are replaced.
        experiments: names from `EXPERIMENTS`, or ``all``; None or empty: the reproduction of the
            paper (a minute or two on one core).
        seeds: independent draws a setting; 0 takes each experiment's own default.
        workers: processes; results do not depend on it.
        quick: coarse grids and few seeds, to look rather than to measure.

    Returns:
        Path of the Markdown report.

    Raises:
        ValueError: an unknown experiment, or a count that is out of range.
    """
    if seeds < 0 or seeds == 1:
        raise ValueError(f"seeds={seeds}: give 0 for the defaults, or 2 and more for error bands")
    if workers < 1:
        raise ValueError(f"workers={workers}: give at least 1 process")
    names = list(dict.fromkeys(experiments or [each.name for each in REPRODUCTION]))
    if "all" in names:
        names = list(EXPERIMENTS)
    unknown = [name for name in names if name not in EXPERIMENTS]
    if unknown:
        raise ValueError(
            f"no experiment is called {', '.join(unknown)}; give some of "
            f"{', '.join(EXPERIMENTS)}, or all"
        )
    out.mkdir(parents=True, exist_ok=True)
    sections = []
    for name in names:
        experiment = EXPERIMENTS[name]
        default = max(2, experiment.seeds // 10) if quick else experiment.seeds
        effort = Effort(seeds or default, workers, quick)
        sections.append(write_experiment(out, experiment, experiment.run(effort)))
    options = (f" --seeds {seeds}" if seeds else "") + (" --quick" if quick else "")
    return write_report(out, f"selffilter theory {' '.join(names)}{options}", sections)


def theory_app(
    experiments: list[str] | None = None,
    out: Path = Path("theory"),
    seeds: int = 0,
    workers: int = 1,
    quick: bool = False,
) -> None:
    """Say what will run and how long it takes, run it, say where the report is."""
    console = Console()
    chosen = experiments or [each.name for each in REPRODUCTION]
    known = [EXPERIMENTS[name] for name in chosen if name in EXPERIMENTS]
    if "all" in chosen:
        known = list(EXPERIMENTS.values())
    minutes = sum(each.minutes for each in known)
    if known and not (quick or seeds):
        console.print(
            f"{', '.join(each.name for each in known)}: about {max(1, round(minutes))} min of one "
            f"core, {workers} at work"
        )
    report = run_theory(out, experiments=experiments, seeds=seeds, workers=workers, quick=quick)
    console.print(f"report: {report}")


def main(arguments: list[str] | None = None) -> int:
    """Entry point of ``python -m selffilter.theory``; returns the exit code."""
    lines = "\n".join(
        f"  {each.name:<12} {each.minutes:>4.1f} min  {each.question}"
        for each in EXPERIMENTS.values()
    )
    parser = argparse.ArgumentParser(
        prog="selffilter theory",
        description="Why filtering by one's own model can work: the linear theory, measured.",
        epilog=f"experiments (minutes on one core):\n{lines}\n  all",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT")
    parser.add_argument("--out", type=Path, default=Path("theory"), help="folder for the files")
    parser.add_argument("--seeds", type=int, default=0, help="draws a setting; 0: the defaults")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--quick", action="store_true", help="coarse and fast: a look, no numbers")
    given = parser.parse_args(arguments)
    try:
        theory_app(given.experiments, given.out, given.seeds, given.workers, given.quick)
    except ValueError as error:
        print(f"selffilter theory: {error}", file=sys.stderr)
        return 2
    return 0
