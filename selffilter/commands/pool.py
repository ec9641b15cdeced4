"""`selffilter pool …`: index a pool, look into it, check that it is whole and accounted for."""

from __future__ import annotations

import json as json_module
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selffilter.endings import EXIT_STOPPED
from selffilter.errors import UserError
from selffilter.plain_text import visible

if TYPE_CHECKING:
    import pyarrow as pa

    from selffilter.interrupt import StopRequest
    from selffilter.pool.contents import Contents
    from selffilter.pool.index import Pool
    from selffilter.rundir.coverage import Account

app = typer.Typer(
    name="pool",
    help="Index a pool's tars, look into them, check that every sample is accounted for.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

EXIT_WRONG = 1

Shards = Annotated[
    list[str],
    typer.Argument(metavar="SHARDS...", help="Folders, patterns or URLs of tars: pool.shards."),
]
ShardsOrIndex = Annotated[
    list[str],
    typer.Argument(metavar="SHARDS...", help="As in pool.shards; or the folder of an index."),
]
IndexDir = Annotated[
    Path | None, typer.Option(help="Where the index lies; where a run in runs/ has it.")
]
CaptionKeyOption = Annotated[
    str | None,
    typer.Option(help="Where captions stand: EXTENSION, EXTENSION:lines, json:FIELD; or txt."),
]
Workers = Annotated[int, typer.Option(help="Processes.", min=0)]
AllowPipe = Annotated[
    bool, typer.Option("--allow-pipe", help="Run the commands of pipe: shards; only if trusted.")
]
MaxPixels = Annotated[
    int | None, typer.Option(help="Larger images are refused; where none is said, as in a run.")
]
MaxBytes = Annotated[int | None, typer.Option(help="Larger image files are refused; likewise.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]

_WORKERS = min(8, os.cpu_count() or 1)


@app.command()
def index(
    shards: Shards,
    index_dir: IndexDir = None,
    caption_key: CaptionKeyOption = None,
    workers: Workers = _WORKERS,
    allow_pipe: AllowPipe = False,
) -> None:
    """Note where every sample stands, without reading images; go on where it was stopped."""
    from selffilter.pool.contents import Contents

    with _stopping() as stop:
        where, pool = _indexed(shards, index_dir, caption_key, workers, allow_pipe, stop)
        total = Contents()
        for part in _contents(pool, stop):
            total.merge(part)
    print(f"index    {where}")
    print(f"version  {pool.version}")
    print(f"samples  {total.samples:,} in {total.shards:,} shards, {_size(total.bytes)}")
    if total.unusable:
        print(f"unusable {_counted(total.unusable)}")
    for sentence in total.broken:
        print(visible(f"broken   {sentence}"))


@app.command()
def inspect(
    shards: ShardsOrIndex,
    index_dir: IndexDir = None,
    caption_key: CaptionKeyOption = None,
    workers: Workers = _WORKERS,
    allow_pipe: AllowPipe = False,
    sheet: Annotated[
        Path | None, typer.Option(help="A .png to draw random samples with captions in.")
    ] = None,
    samples: Annotated[int, typer.Option(help="How many the sheet shows.")] = 48,
    seed: Annotated[int, typer.Option(help="Of their draw.")] = 0,
    max_image_pixels: MaxPixels = None,
    max_image_bytes: MaxBytes = None,
    json: Json = False,
) -> None:
    """Say what is in a pool: sources, samples, sizes, kinds of images, defects."""
    from selffilter.pool.contents import Contents

    if samples < 1:
        raise UserError(f"--samples {samples}: a sheet shows one at least.")
    _check_extension("--sheet", sheet, ".png")
    with _stopping() as stop:
        where, pool = _opened(shards, index_dir, caption_key, workers, allow_pipe, stop)
        parts = _contents(pool, stop)
        total = Contents()
        for part in parts:
            total.merge(part)
        if sheet is not None:
            _draw_sheet(pool, sheet, samples, seed, _bounds(max_image_pixels, max_image_bytes))
    if json:
        sources = {n: part.record() for n, part in zip(pool.sources, parts, strict=True)}
        print(_as_json(_which(where, pool) | {"sources": sources, "total": total.record()}))
    else:
        print(visible(_contents_as_text(where, pool, parts, total)))


@app.command()
def coverage(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    failures: Annotated[
        Path | None, typer.Option(help="A .parquet to list every failed row of the last round in.")
    ] = None,
    json: Json = False,
) -> None:
    """Say what became of every indexed row, round by round; exit 1 if it does not add up."""
    from selffilter.pool.verifying import failed_rows
    from selffilter.rundir.coverage import Account, RunScores

    _check_extension("--failures", failures, ".parquet")
    with _stopping() as stop:
        run = RunScores.of(run_dir)
        found: dict[int, list[Account]] = {}
        with _bar("score tables", len(run.folders) * run.pool.shards, stop) as done:
            for round_ in run.folders:
                found[round_] = run.accounts(round_, lambda: done(1))
        last = max(run.folders)
        if failures is not None:
            _write_rows(failures, (failed_rows(run.pool, *part) for part in run.failures(last)))
    totals = {}
    for round_, parts in found.items():
        totals[round_] = Account()
        for part in parts:
            totals[round_].merge(part)
    adds_up = all(account.adds_up for parts in found.values() for account in parts)
    if json:
        rounds = [
            {
                "round": round_,
                "sources": {
                    name: part.record() for name, part in zip(run.pool.sources, parts, strict=True)
                },
                "total": totals[round_].record(),
            }
            for round_, parts in found.items()
        ]
        print(_as_json({"run": str(run_dir), "adds_up": adds_up, "rounds": rounds}))
    else:
        for round_, parts in found.items():
            print(_accounts_as_text(round_, run.pool.sources, parts, totals[round_]) + "\n")
        print(
            "Every indexed row is in one place: the sums add up."
            if adds_up
            else "The sums do NOT add up: rows are missing, or stand where they cannot."
        )
    if not adds_up:
        sys.exit(EXIT_WRONG)


@app.command()
def verify(
    shards: ShardsOrIndex,
    index_dir: IndexDir = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read and decode samples too.")] = False,
    fraction: Annotated[float, typer.Option(help="Of the samples, with --deep.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of that draw.")] = 0,
    failures: Annotated[
        Path | None, typer.Option(help="With --deep: a .parquet to list broken samples in.")
    ] = None,
    max_image_pixels: MaxPixels = None,
    max_image_bytes: MaxBytes = None,
    workers: Workers = _WORKERS,
    allow_pipe: AllowPipe = False,
    json: Json = False,
) -> None:
    """Check that tars are as they were indexed, and decode; exit 1 if something is wrong."""
    from selffilter.indexing import index_dir_of

    if not 0 < fraction <= 1:
        raise UserError(f"--fraction {fraction} is not above 0 and at most 1.")
    if not deep and (failures is not None or fraction < 1):
        raise UserError("--failures and --fraction are about samples: add --deep.")
    _check_extension("--failures", failures, ".parquet")
    with _stopping() as stop:
        where = index_dir_of(shards, index_dir)
        pool = _latest(where)
        pool.refuse_pipes(allow_pipe or not deep)
        with _bar("shards", pool.shards, stop) as done:
            changed = dict(pool.changed_shards(lambda: done(1)))
        broken = pool.problems()
        looked_at = 0
        reasons: dict[str, int] = {}
        if deep and not changed:
            bounds = _bounds(max_image_pixels, max_image_bytes)
            looked_at, reasons = _decode(pool, fraction, seed, workers, bounds, failures, stop)
    wrong = len(changed) + len(broken) + sum(reasons.values())
    if json:
        found = {
            "shards": pool.shards,
            "changed": {pool.location(shard): what for shard, what in changed.items()},
            "broken": broken,
            "samples": looked_at,
            "unusable": reasons,
            "wrong": wrong,
        }
        print(_as_json(_which(where, pool) | found))
    else:
        for shard, what in changed.items():
            said = what if what in ("gone", "changed") else "silent"
            print(visible(f"{said:<8} {pool.location(shard)}"))
        if silent := [what for what in changed.values() if what not in ("gone", "changed")]:
            print(visible(f"no answer: {silent[0]}"))
        for sentence in broken:
            print(visible(f"broken   {sentence}"))
        same = pool.shards - len(changed)
        print(f"shards   {same:,} of {pool.shards:,} are as they were indexed")
        if deep and changed:
            print("samples  not looked at: they are not where the index says; index the pool again")
        elif deep:
            said = f", unusable: {_counted(reasons)}" if reasons else ", all of them usable"
            print(f"samples  {looked_at:,} read and decoded{said}")
    if wrong:
        sys.exit(EXIT_WRONG)


@app.command()
def move(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    shards: Annotated[
        list[str],
        typer.Argument(metavar="SHARDS...", help="Where each source lies now: pool.shards."),
    ],
    workers: Workers = _WORKERS,
    allow_pipe: AllowPipe = False,
) -> None:
    """Let a run follow its shards to another place, if they are the same; rows keep their numbers.

    `selffilter run` with other pool.shards does the same before it goes on.
    """
    from selffilter.rundir.moving import move_run
    from selffilter.tracking.console import Screen

    with _stopping() as stop:
        version = move_run(run_dir, shards, workers, allow_pipe, Screen(), stop)
    print(f"version  {version}")
    print(f"go on    selffilter run {run_dir / 'config.yaml'}")


# --- parts ------------------------------------------------------------------------------------


def _check_extension(option: str, path: Path | None, extension: str) -> None:
    if path is not None and path.suffix != extension:
        raise UserError(f"{option} {path}: what is written there is a {extension} file.")


@contextmanager
def _stopping() -> Iterator[StopRequest]:
    """Let Ctrl-C end between two shards, with a word about how to go on."""
    from selffilter.interrupt import Stopped, StopRequest

    try:
        with StopRequest() as stop:
            yield stop
    except Stopped:
        print(
            "stopped; what is indexed stays, and the same command goes on from there.",
            file=sys.stderr,
        )
        sys.exit(EXIT_STOPPED)


@contextmanager
def _bar(title: str, total: int, stop: StopRequest) -> Iterator[Any]:
    """Show progress; yields a function to call with how many more are done."""
    from selffilter.tracking.console import Screen

    with Screen().bar(title, total) as bar:

        def done(count: int) -> None:
            bar.advance(count)
            stop.check()

        yield done


def _indexed(
    shards: list[str],
    index_dir: Path | None,
    caption_key: str | None,
    workers: int,
    allow_pipe: bool,
    stop: StopRequest,
) -> tuple[Path, Pool]:
    """Index what is not yet indexed."""
    from selffilter.indexing import index_named
    from selffilter.tracking.console import Screen

    return index_named(
        shards,
        index_dir,
        caption_key=caption_key,
        allow_pipe=allow_pipe,
        workers=workers,
        screen=Screen(),
        stop=stop,
    )


def _opened(
    shards: list[str],
    index_dir: Path | None,
    caption_key: str | None,
    workers: int,
    allow_pipe: bool,
    stop: StopRequest,
) -> tuple[Path, Pool]:
    """Open an index that was named itself; else index the shards."""
    from selffilter.indexing import open_named
    from selffilter.tracking.console import Screen

    return open_named(
        shards,
        index_dir,
        caption_key=caption_key,
        allow_pipe=allow_pipe,
        workers=workers,
        screen=Screen(),
        stop=stop,
    )


def _latest(index_dir: Path, caption_key: str | None = None) -> Pool:
    from selffilter.pool.index import Pool

    return Pool.latest(index_dir, caption_key)


def _contents(pool: Pool, stop: StopRequest) -> list[Contents]:
    from selffilter.pool.contents import contents_of

    with _bar("look into shards", pool.shards, stop) as done:
        return contents_of(pool, lambda: done(1))


def _bounds(pixels: int | None, size: int | None) -> dict[str, int]:
    """Return the bounds asked for; where none is asked, those of a run."""
    from selffilter.config import PoolConfig

    return {
        "max_pixels": PoolConfig.max_image_pixels if pixels is None else pixels,
        "max_bytes": PoolConfig.max_image_bytes if size is None else size,
    }


def _draw_sheet(pool: Pool, path: Path, count: int, seed: int, bounds: dict[str, int]) -> None:
    from selffilter.pool.contact_sheet import draw_sheet, read_samples
    from selffilter.store import write_atomically

    image = draw_sheet(read_samples(pool, count, seed=seed, **bounds))
    write_atomically(path, lambda file: image.save(file, "PNG"))


def _decode(
    pool: Pool,
    fraction: float,
    seed: int,
    workers: int,
    bounds: dict[str, int],
    failures: Path | None,
    stop: StopRequest,
) -> tuple[int, dict[str, int]]:
    """Return how many samples were looked at, and how many of them are unusable, by reason."""
    from collections import Counter

    from selffilter.pool.failures import count_by_reason
    from selffilter.pool.verifying import failed_rows, verify_samples

    looked_at, reasons = 0, Counter[str]()
    with _bar("samples", round(pool.rows * fraction), stop) as done:

        def tables() -> Iterator[pa.Table]:
            nonlocal looked_at
            for found in verify_samples(
                pool, fraction=fraction, seed=seed, workers=workers, on_rows=done, **bounds
            ):
                looked_at += len(found.rows_n)
                reasons.update(count_by_reason(found.failures_n))
                yield failed_rows(pool, found.shard, found.rows_n, found.failures_n)

        if failures is None:
            for _ in tables():
                pass
        else:
            _write_rows(failures, tables())
    return looked_at, dict(reasons)


def _write_rows(path: Path, tables: Iterator[pa.Table]) -> None:
    from selffilter.pool.verifying import FAILED_ROWS
    from selffilter.tables import write_tables

    write_tables(path, tables, FAILED_ROWS)


# --- text -------------------------------------------------------------------------------------


def _which(where: Path, pool: Pool) -> dict[str, Any]:
    return {"index_dir": str(where), "version": pool.version, "caption_key": pool.caption_key}


def _as_json(value: dict[str, Any]) -> str:
    return json_module.dumps(value, indent=2, ensure_ascii=False)


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def _size(count: float | None) -> str:
    if count is None:
        return "–"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1000
    return f"{count:,.3g} TB" if count < 1000 else f"{count:,.0f} TB"


def _contents_as_text(where: Path, pool: Pool, parts: list[Contents], total: Contents) -> str:
    heads = ["source", "shards", "samples", "tars", "images", "mean", "median", "p95", "largest"]
    body = []
    rows = [*zip(pool.sources, parts, strict=True)]
    for name, part in [*rows, ("all", total)] if len(rows) > 1 else rows:
        images = part.images.record()
        body.append(
            [name, f"{part.shards:,}", f"{part.samples:,}", _size(part.bytes)]
            + [_size(images[key]) for key in ("total", "mean", "p50", "p95", "largest")]
        )
    captions = total.captions.record()
    lines = [
        f"{where}, version {pool.version}, captions at {pool.caption_key}\n",
        _table(heads, body),
        "",
        f"images    {_counted(total.kinds)}",
        f"captions  {total.captions.count:,} members, mean {_size(captions['mean'])}, "
        f"median {_size(captions['p50'])}, largest {_size(captions['largest'])}",
        f"unusable  {_counted(total.unusable) or 'none known to the index'}",
    ]
    lines += [f"broken    {sentence}" for sentence in total.broken]
    return "\n".join(lines)


def _accounts_as_text(round_: int, sources: list[str], parts: list[Account], total: Account) -> str:
    from selffilter.rundir.coverage import STATES

    heads = [f"round {round_}", "indexed", *STATES, "failed"]
    rows = list(zip(sources, parts, strict=True))
    body = [
        [name, f"{part.indexed:,}"]
        + [f"{part.states[state]:,}" for state in STATES]
        + [f"{part.failed.total():,}"]
        for name, part in ([*rows, ("all", total)] if len(rows) > 1 else rows)
    ]
    lines = [_table(heads, body)]
    if total.failed:
        lines.append(f"failed: {_counted(total.failed)}")
    if total.wrong:
        lines.append(f"WRONG: {_counted(total.wrong)}")
    return "\n".join(lines)


def _table(heads: list[str], body: list[list[str]]) -> str:
    """Set a table: the first column to the left, numbers to the right."""
    columns = list(zip(heads, *body, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    return "\n".join(
        row[0].ljust(widths[0])
        + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in (heads, *body)
    )
