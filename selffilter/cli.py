"""The command line: parses, calls, prints. Heavy imports wait until a command needs them."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from selffilter import __version__
from selffilter.commands import inspect, pool, score, subset
from selffilter.commands.in_team import end, is_first_here, quieten, this_command, with_team
from selffilter.endings import (
    EXIT_CRASH,
    EXIT_STOPPED,
    EXIT_USER_ERROR,
    Ending,
    ending_of,
    final_before,
    is_last_attempt,
    note_final,
)
from selffilter.errors import Lost, UserError

app = typer.Typer(
    name="selffilter",
    help="Train CLIP on a noisy image-text pool that cleans itself, round by round.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

EXIT_INTERRUPTED = 130

Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Fields of the config.")
]
Only = Annotated[
    str | None, typer.Option(help="Do the next stage, which must be train, score or select; stop.")
]


def main() -> None:
    """Run the command line; a user's mistake ends in one sentence and exit code 2."""
    before = final_before()
    if before is not None:
        # torchrun starts again whatever has not ended with 0. What was said is far above by now.
        end(before, speak=is_last_attempt() and is_first_here(), at_once=is_first_here())
    try:
        app(standalone_mode=True)
    except Exception as error:
        ending = ending_of(error)
        if ending.code == EXIT_CRASH and not isinstance(error, Lost):
            raise
        if not isinstance(error, UserError):
            end(ending)
        # The ranks have not met yet (see `with_team`): all make the same mistake.
        end(dataclasses.replace(ending, rank=0), speak=is_first_here())
    except SystemExit as stop:
        if stop.code == EXIT_USER_ERROR:  # typer has said what is wrong with the command
            note_final(Ending(EXIT_USER_ERROR, "no such command: see above"))
        if stop.code == EXIT_INTERRUPTED:  # typer makes it of a KeyboardInterrupt, and is silent
            print(
                "selffilter: stopped at once; the same command goes on from what was saved last.",
                file=sys.stderr,
            )
        raise


app.add_typer(pool.app)
app.add_typer(subset.app)
app.add_typer(score.app)  # without a name: its commands stand beside the others
app.add_typer(inspect.app)


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
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Say nothing but what went wrong.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Say it as JSON lines on the standard output.")
    ] = False,
) -> None:
    """Run, or go on with, the run that CONFIG describes: rounds of train, score, select."""
    from selffilter.config import load_config

    if quiet and json:
        raise UserError("--quiet and --json: one of the two.")

    if only not in (None, "train", "score", "select"):
        raise UserError(f"--only {only!r} is not one of train, score, select.")
    loaded = load_config(config, overrides or [])
    _run(loaded, only, quiet=quiet, as_json=json)


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
    with_team(accelerator, lambda team: run_demo(team, out, noise, seed, compare, words))


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
def experiment(
    file: Annotated[
        Path, typer.Argument(metavar="EXPERIMENT", help="A YAML file; see configs/experiments/.")
    ],
    jobs: Annotated[int, typer.Option(help="Runs at a time.")] = 1,
    only: Annotated[str, typer.Option(help="Some of the methods: METHOD,METHOD.")] = "",
    seeds: Annotated[str, typer.Option(help="Some of the seeds: 0,1.")] = "",
    dry_run: Annotated[bool, typer.Option(help="Say what would run, and stop.")] = False,
    report: Annotated[bool, typer.Option(help="Run nothing; report what is finished.")] = False,
) -> None:
    """Run a grid of methods, seeds and pools, resumable, and set the methods against each other."""
    from selffilter.interrupt import Stopped

    try:
        from selffilter.experiments.command import run_experiment
    except ImportError as error:
        raise _missing(error, "experiments") from error

    methods = [word for word in only.split(",") if word]
    numbers = [word for word in seeds.split(",") if word]
    if bad := [word for word in numbers if not word.isdecimal()]:
        raise UserError(f"--seeds {seeds}: {bad[0]!r} is not a whole number.")
    quieten()
    try:
        code = run_experiment(
            file,
            jobs=jobs,
            only=methods,
            seeds=[int(word) for word in numbers],
            dry_run=dry_run,
            report_only=report,
        )
    except Stopped:
        code = EXIT_STOPPED
    if code == EXIT_STOPPED:
        print(f"stopped and saved. The same command goes on:  {this_command()}", file=sys.stderr)
    sys.exit(code)


@app.command()
def noise(
    shards: Annotated[list[str], typer.Argument(metavar="SHARDS...", help="Folders or patterns.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Where noisy pool and truth go.")],
    kind: Annotated[str, typer.Option(help="What to plant: see docs/noise.md.")] = "mismatched",
    rate: Annotated[float, typer.Option(help="Share of the samples that get noise.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Of all draws.")] = 0,
    caption_key: Annotated[str, typer.Option(help="Where captions stand.")] = "txt",
    label_key: Annotated[
        str | None, typer.Option(help="Field of the json with what a sample shows.")
    ] = None,
    cluster_key: Annotated[
        str | None, typer.Option(help="Field of the json that hard mismatches stay inside of.")
    ] = None,
    mix: Annotated[
        str | None, typer.Option(help="Of web_mixture: mismatched=0.7,boilerplate=0.3.")
    ] = None,
    copies_per_source: Annotated[
        float | None, typer.Option(help="Near-duplicates of one image, on average; 50.")
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="A further field of the json to keep.")
    ] = None,
) -> None:
    """Write a pool anew with planted noise, and the truth beside it."""
    from selffilter.pool.noise.settings import NoiseSettings, parse_mix
    from selffilter.pool.noisy_pool import describe_noise, write_noisy_pool
    from selffilter.tracking.console import Screen

    settings = NoiseSettings(
        kind=kind,
        rate=rate,
        seed=seed,
        caption_key=caption_key,
        label_key=label_key,
        cluster_key=cluster_key,
        mix=None if mix is None else parse_mix(mix),
        copies_per_source=copies_per_source,
        keep_fields=tuple(keep or ()),
    )
    screen = Screen()
    report = write_noisy_pool(shards, out, settings, bar=screen.bar)
    print(describe_noise(report, out))


@app.command()
def materialize(
    selection: Annotated[
        Path, typer.Argument(help="A run directory, or a subset: .npy, .parquet or .txt.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Where the new shards go.")],
    round_: Annotated[
        int | None, typer.Option("--round", help="Whose selection, of a run; the last.")
    ] = None,
    shards: Annotated[
        list[str] | None, typer.Option(help="Of a subset: a folder or pattern of its pool.")
    ] = None,
    caption_key: Annotated[str, typer.Option(help="Of a subset: where captions stand.")] = "txt",
    index_dir: Annotated[
        Path | None, typer.Option(help="Of a subset: where the pool's index lies.")
    ] = None,
    allow_pipe: Annotated[
        bool, typer.Option("--allow-pipe", help="Run the commands of pipe: shards, if trusted.")
    ] = False,
    samples_per_shard: Annotated[int, typer.Option(help="At most.")] = 10_000,
    repeat: Annotated[
        bool, typer.Option("--repeat", help="Write a row as often as its weight.")
    ] = False,
    resize: Annotated[
        int | None, typer.Option(help="Longest shorter side of an image; larger ones shrink.")
    ] = None,
    format: Annotated[str, typer.Option(help="Of the images: keep, jpg or webp.")] = "keep",
    quality: Annotated[int, typer.Option(help="Of JPEG and WebP, where encoded anew.")] = 90,
    seed: Annotated[int, typer.Option(help="Of the order.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes.")] = min(8, os.cpu_count() or 1),
    memory_gb: Annotated[float, typer.Option(help="What all of them hold of samples.")] = 4.0,
) -> None:
    """Write a selection as new shards, shuffled; the same command goes on after a stop."""
    from selffilter.interrupt import Stopped
    from selffilter.pool.materialise.settings import ShardSettings
    from selffilter.rundir.materialising import run_materialize

    settings = ShardSettings(
        samples_per_shard=samples_per_shard,
        seed=seed,
        repeat=repeat,
        resize=resize,
        format=format,
        quality=quality,
    )
    try:
        said = run_materialize(
            selection,
            out,
            settings,
            round_=round_,
            shards=shards or [],
            caption_key=caption_key,
            index_dir=index_dir,
            allow_pipe=allow_pipe,
            workers=workers,
            memory_gb=memory_gb,
        )
    except Stopped:
        print(
            f"stopped; finished shards stay. The same command goes on:  {this_command()}",
            file=sys.stderr,
        )
        sys.exit(EXIT_STOPPED)
    print(said)


@app.command()
def status(
    run_dir: Annotated[Path, typer.Argument(help="A run directory.")],
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again and again, until nobody works on it.")
    ] = False,
    every: Annotated[float, typer.Option(help="Seconds between two looks of --watch.")] = 5.0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, a line a look.")] = False,
) -> None:
    """Say where a run stands: rounds, stage, speed and time left, heartbeat, alarms."""
    from selffilter.rundir.status_command import show_status

    show_status(run_dir, watch=watch, every_s=every, as_json=json)


@app.command()
def fork(
    run_dir: Annotated[Path, typer.Argument(help="The run to branch off from.")],
    name: Annotated[str, typer.Option(help="Name of the new run.")],
    from_round: Annotated[int, typer.Option(help="Last round whose training is shared.")] = 0,
    overrides: Overrides = None,
) -> None:
    """Begin another run from a round of this one; `selffilter run` goes on with it."""
    from selffilter.config import load_config
    from selffilter.rundir.forking import fork as fork_run
    from selffilter.store import RunStore

    source = RunStore(run_dir)
    if not source.config_path.exists():
        raise UserError(f"{run_dir} is no run directory: it has no config.yaml.")
    config = load_config(source.config_path, [*(overrides or []), f"name={name}"])
    made = fork_run(source, config, from_round)
    print(f"{made.root} shares the training of rounds 0 to {from_round} with {run_dir}.")
    print(f"Go on with it:  selffilter run {made.config_path}")


@app.command()
def evaluate(
    checkpoint: Annotated[
        str,
        typer.Argument(help="A run directory, an open_clip folder, ARCHITECTURE:FILE or :TAG."),
    ],
    sets: Annotated[
        list[str] | None,
        typer.Argument(help="Folders or URLs in CLIP_benchmark's layout; NAME=… names one."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where results go: RUN/evaluation, or evaluation/NAME of the model."),
    ] = None,
    datacomp: Annotated[
        Path | None, typer.Option(help="A folder with DataComp's sets: all that are there.")
    ] = None,
    split: Annotated[str, typer.Option(help="The folder of the shards in each set.")] = "test",
    batch_size: Annotated[int, typer.Option(help="Samples encoded together.")] = 256,
    workers: Annotated[int, typer.Option(help="Processes that decode.")] = min(
        8, os.cpu_count() or 1
    ),
    accelerator: Annotated[str, typer.Option(help="auto, cpu or gpu.")] = "auto",
    precision: Annotated[str, typer.Option(help="32-true or bf16-mixed.")] = "32-true",
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Evaluate a trained model: zero-shot classification, retrieval, DataComp's tasks."""
    quieten()
    from selffilter.evaluating import run_evaluation

    run_evaluation(
        checkpoint,
        sets or [],
        out=out,
        datacomp=datacomp,
        split=split,
        batch_size=batch_size,
        workers=workers,
        accelerator=accelerator,
        precision=precision,
        as_json=json,
    )


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
        raise _missing(error, "theory") from error
    try:
        report = run_theory(out, experiments=experiments, seeds=seeds, workers=workers, quick=quick)
    except ValueError as error:
        raise UserError(str(error)) from error
    print(f"report: {report}")


def _run(config: Any, only: str | None, *, quiet: bool, as_json: bool) -> None:
    from selffilter.run import run as run_loop
    from selffilter.tracking.console import Screen, what_lies_where
    from selffilter.tracking.events import JsonScreen

    def work(team: Any) -> None:
        if as_json and team.is_main:
            with JsonScreen().until_end(config.run_dir) as events:
                run_loop(config, team, events, only)
            return
        screen = Screen(quiet=quiet or not team.is_main)
        store = run_loop(config, team, screen, only)
        if only is None:
            screen.say(what_lies_where(store))

    with_team(config.hardware.accelerator, work)


def _missing(error: ImportError, extra: str) -> UserError:
    return UserError(f"{error.name} is missing: pip install 'selffilter[{extra}]'.")
