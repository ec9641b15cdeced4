"""The command line: parses, calls, prints. Heavy imports wait until a command needs them."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from selffilter import __version__
from selffilter.errors import UserError

app = typer.Typer(
    name="selffilter",
    help="Train CLIP on a noisy image-text pool that cleans itself, round by round.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

EXIT_USER_ERROR = 2
EXIT_STOPPED = 75
"""EX_TEMPFAIL: the run was asked to stop and is saved; the same command goes on with it."""

Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Fields of the config.")
]
Only = Annotated[
    str | None, typer.Option(help="Do the next stage, which must be train, score or select; stop.")
]


def main() -> None:
    """Run the command line; a user's mistake ends in one sentence and exit code 2."""
    try:
        app(standalone_mode=True)
    except UserError as error:
        if int(os.environ.get("RANK", 0)) == 0:
            print(f"selffilter: {error}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except KeyboardInterrupt:
        print(
            "selffilter: stopped at once; the run goes on from its last checkpoint.",
            file=sys.stderr,
        )
        sys.exit(130)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(f"selffilter {__version__}")
        raise typer.Exit


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="A YAML file; see configs/.")],
    overrides: Overrides = None,
    only: Only = None,
) -> None:
    """Run, or go on with, the run that CONFIG describes: rounds of train, score, select."""
    from selffilter.config import load_config

    if only not in (None, "train", "score", "select"):
        raise UserError(f"--only {only!r} is not one of train, score, select.")
    loaded = load_config(config, overrides or [])
    _run(loaded, only)


@app.command()
def demo(
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="Where pool and runs go.")] = Path("runs"),
    noise: Annotated[float, typer.Option(help="Share of captions that are swapped.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Seed of the noise and of the run.")] = 0,
    compare: Annotated[
        bool, typer.Option(help="Also train the uniform control and the oracle.")
    ] = False,
) -> None:
    """Watch a small CLIP model clean 7,363 clip-arts with planted noise (minutes, no GPU)."""
    from selffilter.demo import run_demo

    words = overrides or []
    asked = [w.partition("=")[2] for w in words if w.startswith("hardware.accelerator=")]
    accelerator = asked[-1] if asked else "auto"
    _with_team(accelerator, lambda team: run_demo(team, out, noise, seed, compare, words))


@app.command()
def plan(
    config: Annotated[Path, typer.Argument(help="A YAML file; see configs/.")],
    overrides: Overrides = None,
    ranks: Annotated[int, typer.Option(help="Processes that would train.")] = 1,
) -> None:
    """Say what a run would do: rounds, steps, repeats a sample, FLOPs, disk. Indexes the pool."""
    from selffilter.config import load_config
    from selffilter.outlook import print_plan

    print_plan(load_config(config, overrides or []), ranks)


@app.command()
def status(run_dir: Annotated[Path, typer.Argument(help="A run directory.")]) -> None:
    """Say where a run stands."""
    from selffilter.outlook import print_status

    print_status(run_dir)


@app.command()
def fork(
    run_dir: Annotated[Path, typer.Argument(help="The run to branch off from.")],
    name: Annotated[str, typer.Option(help="Name of the new run.")],
    from_round: Annotated[int, typer.Option(help="Last round whose training is shared.")] = 0,
    overrides: Overrides = None,
) -> None:
    """Begin another run from a round of this one; `selffilter run` goes on with it."""
    from selffilter.config import load_config
    from selffilter.forking import fork as fork_run
    from selffilter.store import RunStore

    source = RunStore(run_dir)
    if not source.config_path.exists():
        raise UserError(f"{run_dir} is no run directory: it has no config.yaml.")
    config = load_config(source.config_path, [*(overrides or []), f"name={name}"])
    made = fork_run(source, config, from_round)
    print(f"{made.root} shares the training of rounds 0 to {from_round} with {run_dir}.")
    print(f"Go on with it:  selffilter run {made.config_path}")


@app.command()
def theory(
    experiments: Annotated[
        list[str] | None, typer.Argument(help="Which; all the quick ones.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where report and figures go.")] = Path("runs/theory"),
    seeds: Annotated[int, typer.Option(help="Repeats of each setting; 0: as each wants.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes.")] = os.cpu_count() or 1,
    quick: Annotated[bool, typer.Option(help="Smaller, for a first look.")] = False,
) -> None:
    """Why filtering by one's own model can work: the linear model of arXiv 2512.14230."""
    try:
        from selffilter.theory.cli import run_theory
    except ImportError as error:
        raise UserError(f"{error.name} is missing: pip install 'selffilter[theory]'.") from error
    try:
        report = run_theory(out, experiments=experiments, seeds=seeds, workers=workers, quick=quick)
    except ValueError as error:
        raise UserError(str(error)) from error
    print(f"report: {report}")


def _run(config: Any, only: str | None) -> None:
    from selffilter.run import run as run_loop
    from selffilter.tracking.console import Screen, what_lies_where

    def work(team: Any) -> None:
        screen = Screen(quiet=not team.is_main)
        store = run_loop(config, team, screen, only)
        if only is None:
            screen.say(what_lies_where(store))

    _with_team(config.hardware.accelerator, work)


def _with_team(accelerator: str, work: Any) -> None:
    """Join the other ranks, work, and leave in good order."""
    _quieten()
    from selffilter.interrupt import Stopped
    from selffilter.team import join_team

    team = join_team(accelerator)
    try:
        work(team)
    except Stopped:
        again = shlex.join(["selffilter", *sys.argv[1:]])
        team.say(f"stopped and saved. The same command goes on:  {again}")
        sys.exit(EXIT_STOPPED)
    team.leave()


def _quieten() -> None:
    """Keep libraries' advice out of the table; our own words are the ones that matter."""
    import logging
    import warnings

    os.environ.setdefault("WANDB_SILENT", "true")
    warnings.filterwarnings("ignore", category=UserWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
