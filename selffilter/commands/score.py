"""`selffilter score`, `select` and `eliminate`: the parts of the loop that serve by themselves."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from selffilter.commands.in_team import with_team
from selffilter.endings import EXIT_STOPPED
from selffilter.errors import UserError

app = typer.Typer(rich_markup_mode=None)

_WORKERS = min(8, os.cpu_count() or 1)

DatacompModel = Annotated[
    str, typer.Option(help="Of DataComp's metadata: whose embeddings, b32 or l14.")
]
Accelerator = Annotated[str, typer.Option(help="auto, cpu or gpu.")]


class _InOrder(TyperCommand):
    """Remembers the words of the command: options of different names have an order too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta["words"] = list(args)
        return super().parse_args(ctx, args)


def in_order(words: list[str], names: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the options of some names, ``--name value`` or ``--name=value``, as they stand."""
    found = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            break
        option, equals, value = word.partition("=")
        if option.removeprefix("--") in names and option.startswith("--"):
            found.append((option.removeprefix("--"), value if equals else next(rest, "")))
    return found


@app.command()
def score(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE... OUT",
            help="Shards, an index, or a folder of ready embeddings; last: where scores go.",
        ),
    ],
    signal: Annotated[
        list[str] | None,
        # torchrun reads the words of what it runs, and takes --signal for one of its own (2.15).
        typer.Option("--signal", "--by", help="What to score by; again for more. Either name."),
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="A column of the metadata to take over.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A run, RUN/rounds/RRR/train/model.safetensors, an open_clip folder, "
            "ARCHITECTURE:FILE or :TAG. With ready embeddings: what encodes --target."
        ),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="For learnability: a model; or embeddings by one.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="A set in CLIP_benchmark's layout; or its embeddings, a folder or .npy."),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="The model's; of embeddings by an unknown model 0.01.")
    ] = None,
    bank_size: Annotated[int, typer.Option(help="Rows that others are compared with.")] = 32_768,
    seed: Annotated[int, typer.Option(help="Of the bank, and of permutations.")] = 0,
    permutation_batch: Annotated[
        int, typer.Option(help="Rows a batch of neg_clip_loss_permutation.")
    ] = 32_768,
    draws: Annotated[int, typer.Option(help="Permutations of neg_clip_loss_permutation.")] = 10,
    datacomp_model: DatacompModel = "l14",
    batch_size: Annotated[int, typer.Option(help="Rows encoded together.")] = 256,
    workers: Annotated[int, typer.Option(help="Processes that decode.")] = _WORKERS,
    accelerator: Accelerator = "auto",
    precision: Annotated[str, typer.Option(help="32-true or bf16-mixed.")] = "32-true",
    caption_key: Annotated[
        str | None, typer.Option(help="Where captions stand: EXTENSION, json:FIELD, …; or txt.")
    ] = None,
    index_dir: Annotated[
        Path | None, typer.Option(help="Where the index lies; where a run in runs/ has it.")
    ] = None,
    allow_pipe: Annotated[
        bool, typer.Option("--allow-pipe", help="Run the commands of pipe: shards, if trusted.")
    ] = False,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Keep the embeddings too, in OUT/embeddings.")
    ] = False,
    part: Annotated[str, typer.Option(help="i/n: this job's share of the shards.")] = "1/1",
) -> None:
    """Score a pool with any model, or embeddings that are ready; go on where it was stopped."""
    from selffilter.standalone.settings import ScoreSettings, parse_part

    if len(paths) < 2:
        raise UserError("name what to score, and behind it the folder where scores go.")
    *sources, out = paths
    settings = ScoreSettings(
        signals=tuple(signal or ()),
        columns=tuple(column or ()),
        model=model,
        reference=reference,
        target=target,
        temperature=temperature,
        bank_size=bank_size,
        seed=seed,
        permutation_batch=permutation_batch,
        draws=draws,
        datacomp_model=datacomp_model,
        batch_size=batch_size,
        workers=workers,
        precision=precision,
        caption_key=caption_key,
        index_dir=index_dir,
        allow_pipe=allow_pipe,
        keep_embeddings=embeddings,
        part=parse_part(part),
    )
    settings.check(accelerator)

    def work(team: Any) -> None:
        from selffilter.standalone.score import run_score
        from selffilter.tracking.console import Screen

        run_score(sources, Path(out), settings, team, Screen(quiet=not team.is_main))

    with_team(accelerator, work)


@app.command(cls=_InOrder)
def select(
    context: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="SCORES... [CONFIG.yaml] OUT",
            help="Folders of scores of the same rows; a config to select as a run would; last: a "
            ".npy, .parquet or .txt file, or with a config a folder.",
        ),
    ],
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="SIGNAL:FRACTION", help="The best, of the original pool so many."),
    ] = None,
    above: Annotated[
        list[str] | None, typer.Option(metavar="SIGNAL:VALUE", help="Those that score at least.")
    ] = None,
    top: Annotated[
        list[str] | None, typer.Option(metavar="SIGNAL:COUNT", help="The best so many.")
    ] = None,
    ensemble: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOW:SIGNAL,SIGNAL=NAME", help="A column of ranks first; HOW: mean or min."
        ),
    ] = None,
    of: Annotated[
        str, typer.Option(help="What fractions are of: indexed (all rows of the pool) or usable.")
    ] = "indexed",
    by: Annotated[
        str | None, typer.Option(help="With a config: the column; or score.signal.")
    ] = None,
    round_: Annotated[
        int, typer.Option("--round", help="With a config: which round's numbers, and draw.")
    ] = 0,
    samples: Annotated[
        int | None, typer.Option(help="With select.weights=samples: how many will be consumed.")
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="With a config: a field of it."),
    ] = None,
) -> None:
    """Select by scores: --keep, --above and --top, in the order given; or as a run does."""
    from selffilter.selecting.cuts import Of, Rule
    from selffilter.standalone.select import Ensemble, run_select

    configs = [path for path in paths if path.suffix in (".yaml", ".yml")]
    paths = [path for path in paths if path not in configs]
    if len(paths) < 2 or len(configs) > 1:
        raise UserError(
            "name a folder of scores, behind it a config if there is one, and the subset file to "
            "write."
        )
    if configs or override:
        _select_as_a_run(paths, configs, override or [], by, round_, samples, keep or above or top)
        return
    if by is not None or round_ or samples is not None:
        raise UserError("--by, --round and --samples go with a config, or with --set.")
    if of not in ("indexed", "usable"):
        raise UserError(f"--of {of!r} is not one of indexed, usable.")
    asked = in_order(context.meta["words"], ("keep", "above", "top"))
    assert sorted(text for _, text in asked) == sorted(
        [*(keep or []), *(above or []), *(top or [])]
    )
    rules = [Rule.parse(kind, text) for kind, text in asked]  # type: ignore[arg-type]
    base: Of = "usable" if of == "usable" else "indexed"
    *folders, out = paths
    ensembles = [Ensemble.parse(text) for text in ensemble or []]
    print(run_select(folders, out, rules, ensembles=ensembles, of=base))


def _select_as_a_run(
    paths: list[Path],
    configs: list[Path],
    overrides: list[str],
    by: str | None,
    round_: int,
    samples: int | None,
    rules: list[str] | None,
) -> None:
    from selffilter.config import load_selection
    from selffilter.standalone.choose import run_choice

    if rules:
        raise UserError(
            "--keep, --above and --top do not go with a config: write select.cuts there, as in "
            "--set 'select.cuts=[\"keep cosine:0.45\"]'."
        )
    config = load_selection(configs[0] if configs else None, overrides)
    *folders, out = paths
    print(run_choice(folders, out, config, signal=by, round_=round_, samples=samples))


@app.command()
def eliminate(
    embeddings: Annotated[Path, typer.Argument(help="A folder of ready embeddings.")],
    scores: Annotated[Path, typer.Argument(help="A folder of scores of the same rows.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Where the new scores go.")],
    begin: Annotated[
        float, typer.Option("--from", help="What the first cut leaves of the original pool.")
    ],
    end: Annotated[float, typer.Option("--to", help="What stays of the original pool.")],
    by: Annotated[str, typer.Option(help="The signal of the first cut.")] = "cosine",
    steps: Annotated[int, typer.Option(help="Rounds of dropping.")] = 168,
    kind: Annotated[
        str, typer.Option(help="variance_alignment (VAS-D) or norm_sim (NormSim-D).")
    ] = "variance_alignment",
    datacomp_model: DatacompModel = "l14",
    memory_gb: Annotated[float, typer.Option(help="What may be held of embeddings.")] = 16.0,
    accelerator: Accelerator = "auto",
) -> None:
    """Score by dynamic elimination: in which step each row is dropped, as elimination_step."""
    from selffilter.interrupt import Stopped, StopRequest
    from selffilter.standalone.eliminate import EliminationSettings, run_eliminate
    from selffilter.team import join_team
    from selffilter.tracking.console import Screen

    settings = EliminationSettings(
        by=by,
        begin=begin,
        end=end,
        steps=steps,
        kind=kind,
        datacomp_model=datacomp_model,
        memory_gb=memory_gb,
    )
    settings.check()
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError("eliminate runs in one process: start it without torchrun.")
    device = join_team(accelerator).device
    try:
        with StopRequest() as stop:
            said = run_eliminate(embeddings, scores, out, settings, device, Screen(), stop)
    except Stopped:
        print("stopped; the same command begins anew.", file=sys.stderr)
        sys.exit(EXIT_STOPPED)
    print(said)
