"""`selffilter subset …`: convert, combine, compare and sample subsets of a pool."""

from __future__ import annotations

import json as json_module
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selffilter.errors import UserError

if TYPE_CHECKING:
    from selffilter.pool.multiset import Comparison, Subset

app = typer.Typer(
    name="subset",
    help="Convert, combine, compare and sample subsets: .npy (DataComp), .parquet, .txt, runs.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Source = Annotated[Path, typer.Argument(help="A subset file, or a run directory.")]
Sources = Annotated[list[Path], typer.Argument(help="Subset files and run directories; last: OUT.")]
Round = Annotated[int | None, typer.Option("--round", help="Of a run directory; its last.")]


@app.command()
def convert(
    source: Source,
    out: Annotated[Path, typer.Argument(help="A .npy, .parquet or .txt file.")],
    round_: Round = None,
) -> None:
    """Write a subset in another format."""
    _write(out, lambda: _read_all([source], round_)[0])


@app.command()
def intersect(paths: Sources, round_: Round = None) -> None:
    """Write what stands in all of them: of weights the smallest."""
    from selffilter.pool.multiset import intersect as combine

    _combine(paths, round_, combine)


@app.command()
def union(
    paths: Sources,
    round_: Round = None,
    sum_: Annotated[bool, typer.Option("--sum", help="Add weights up.")] = False,
) -> None:
    """Write what stands in any of them: of weights the largest, or their sum."""
    from selffilter.pool.multiset import add
    from selffilter.pool.multiset import union as combine

    _combine(paths, round_, add if sum_ else combine)


@app.command()
def minus(paths: Sources, round_: Round = None) -> None:
    """Write the first without the others: their weights are taken off its weights."""
    from selffilter.pool.multiset import minus as combine

    _combine(paths, round_, combine)


@app.command()
def compare(
    paths: Annotated[list[Path], typer.Argument(help="Subset files and run directories.")],
    round_: Round = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Print sizes, overlaps and Jaccard indices of each two."""
    from selffilter.pool.multiset import compare as compare_subsets

    found = compare_subsets(_read_all(paths, round_))
    print(_as_json(paths, found) if json else _as_text(paths, found))


@app.command()
def sample(
    source: Source,
    out: Annotated[Path, typer.Argument(help="A .npy, .parquet or .txt file.")],
    count: Annotated[int | None, typer.Option(help="So many samples.")] = None,
    fraction: Annotated[float | None, typer.Option(help="This share of them.")] = None,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    round_: Round = None,
) -> None:
    """Draw samples without replacement; a uid of weight m takes part m times."""
    from selffilter.pool.multiset import sample as draw

    if (count is None) == (fraction is None):
        raise UserError("give either --count or --fraction.")
    if fraction is not None and math.isnan(fraction):
        raise UserError(f"--fraction {fraction} is no share.")

    def drawn() -> Subset:
        (subset,) = _read_all([source], round_)
        wanted = round(fraction * subset.samples) if fraction is not None else count
        if wanted is None or not 0 <= wanted <= subset.samples:
            asked = f"--fraction {fraction}" if fraction is not None else f"--count {count}"
            raise UserError(f"{asked}: {source} holds {subset.samples:,} samples.")
        return draw(subset, wanted, seed)

    _write(out, drawn)


def _combine(
    paths: list[Path], round_: int | None, combine: Callable[[Sequence[Subset]], Subset]
) -> None:
    if len(paths) < 3:
        raise UserError("give two subsets at least, and OUT behind them.")
    *sources, out = paths
    _write(out, lambda: combine(_read_all(sources, round_)))


def _read_all(paths: Sequence[Path], round_: int | None) -> list[Subset]:
    from selffilter.comparing.sides import refuse_round_of_files, subset_at

    refuse_round_of_files(paths, round_)
    return [subset_at(path, round_) for path in paths]


def _write(out: Path, make: Callable[[], Subset]) -> None:
    from selffilter.pool.subset import check_subset_name, write_subset_file

    check_subset_name(out)
    subset = make()
    write_subset_file(out, subset)
    print(f"{out}: {_size(len(subset), subset.samples)}")


def _size(uids: int, samples: int) -> str:
    return f"{uids:,} uids" + (f", {samples:,} samples with their weights" * (samples != uids))


def _as_json(paths: list[Path], found: Comparison) -> str:
    return json_module.dumps(
        {
            "subsets": [str(path) for path in paths],
            "uids": found.uids_K.tolist(),
            "samples": found.samples_K.tolist(),
            "overlap": found.overlap_KK.tolist(),
            "jaccard": found.jaccard_KK.tolist(),
        },
        indent=2,
    )


def _as_text(paths: list[Path], found: Comparison) -> str:
    numbers = [f"[{i}]" for i in range(len(paths))]
    lines = [
        f"{number:>4}  {path}: {_size(uids, samples)}"
        for number, path, uids, samples in zip(
            numbers, paths, found.uids_K.tolist(), found.samples_K.tolist(), strict=True
        )
    ]
    for title, cells in (
        ("samples in common", [[f"{n:,}" for n in row] for row in found.overlap_KK.tolist()]),
        ("Jaccard index", [[f"{x:.3f}" for x in row] for row in found.jaccard_KK.tolist()]),
    ):
        width = max(len(cell) for row in [*cells, numbers] for cell in row)
        lines += ["", title, " " * 4 + "".join(f"  {n:>{width}}" for n in numbers)]
        lines += [
            f"{number:>4}" + "".join(f"  {cell:>{width}}" for cell in row)
            for number, row in zip(numbers, cells, strict=True)
        ]
    return "\n".join(lines)
