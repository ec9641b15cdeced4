"""Files that a run leaves: tidy CSV, figures, one Markdown report."""

from __future__ import annotations

import csv
from pathlib import Path

from selffilter.theory import plotting
from selffilter.theory.experiments import Experiment
from selffilter.theory.parallel import Row

PREAMBLE = """# Filtering by one's own model: the linear theory

The model, the closed-form solution and the error are those of arXiv 2512.14230. Bands are two
standard errors over seeds. Remade by `{command}`.
"""


def write_experiment(out: Path, experiment: Experiment, rows: list[Row]) -> str:
    """Write ``NAME.csv``, ``NAME.png``, ``NAME.svg`` and return the section of the report."""
    with (out / f"{experiment.name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    plotting.save(experiment.figure(rows), out, experiment.name)
    return (
        f"## {experiment.title}\n\n*{experiment.question}*\n\n"
        f"![{experiment.title}]({experiment.name}.png)\n\n{experiment.text(rows)}\n\n"
        f"Numbers: [{experiment.name}.csv]({experiment.name}.csv)\n"
    )


def write_report(out: Path, command: str, sections: list[str]) -> Path:
    """Write ``report.md`` and return its path."""
    path = out / "report.md"
    path.write_text("\n".join([PREAMBLE.format(command=command), *sections]), encoding="utf-8")
    return path
