"""`selffilter plan`: what a run would do."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from selffilter.config import Config
from selffilter.interrupt import StopRequest
from selffilter.planning import check_ranks, outlook
from selffilter.tracking.console import Screen


def print_plan(config: Config, ranks: int) -> None:
    """Index the pool and print what the run would do.

    Raises:
        UserError: If it could not be done.
    """
    from selffilter.clip.flops import forward_flops
    from selffilter.clip.model import find_recipe
    from selffilter.indexing import open_pool
    from selffilter.opening import check_selection, check_signals
    from selffilter.pool.base import Base
    from selffilter.pool.facts import pool_facts
    from selffilter.pool.index import Pool
    from selffilter.reading_costs import materialising_advice, training_sets
    from selffilter.scoring.embeddings.folder import embeddings_bytes

    check_ranks(config, ranks)
    recipe = find_recipe(config.model.name, config.model.pretrained)
    if config.score.signal != "given":
        check_signals(config)
    check_selection(config)
    pinned = open_pool(config, Screen(), StopRequest())
    pool = Pool(Path(pinned["index_dir"]), pinned["version"], config.pool.caption_key)
    base = Base.of(pool, config)
    flops = forward_flops(recipe)
    parameters = sum(p.numel() for p in recipe.build("meta").parameters())
    kept = 0
    if config.score.keep_embeddings or config.select.needs_embeddings:
        kept = embeddings_bytes(pool.rows, pool.shards, recipe.model_config["embed_dim"])
    plan = outlook(config, base.size, pool.rows, flops, parameters, kept)

    console = Console(highlight=False)
    left_out = sum(pool.defect_counts().values())
    probe = sum(int(base.in_probe(base.readable(s)).sum()) for s in range(pool.shards))
    outside = pool.rows - left_out - base.size - probe
    console.print(
        f"pool    {pool.rows:,} rows in {pool.shards:,} shards = {base.size:,} base + "
        f"{probe:,} probe + {left_out:,} unusable"
        + (f" + {outside:,} outside pool.subset" if outside else "")
    )
    if (heaviest := len(base.counts_PS)) > 1:
        console.print(
            f"pass    {int(base.counts_PS.sum()):,} samples over the base: a row counts up to "
            f"{heaviest} times (pool.subset, pool.source_weights)"
        )
    console.print(
        f"model   {recipe.name}, {parameters / 1e6:,.1f} M parameters, {flops / 1e9:,.2f} GFLOPs "
        "a pair forward"
    )
    batch = config.train.global_batch_size
    console.print(f"ranks   {ranks} × {batch // ranks:,} = batches of {batch:,}\n")
    table = Table(box=None, header_style="bold")
    for title in ("round", "steps", "samples", "from rows", "times a row", "batches a rank"):
        table.add_column(title, justify="right")
    for row in plan.rounds:
        table.add_row(
            str(row["round"]), f"{row['steps']:,}", f"{row['samples']:,}", f"{row['rows']:,}",
            f"{row['consumed_per_row']:.2f}", f"{row['steps']:,}",
        )  # fmt: skip
    console.print(table)
    share = plan.scoring_flops / plan.training_flops
    console.print(
        f"\ncompute training {plan.training_flops:.3g} FLOPs, scoring {plan.scoring_flops:.3g} "
        f"({plan.scoring_passes} passes over the pool, {share:.2f} of training)"
    )
    console.print(
        f"disk    about {plan.disk_bytes / 1e9:,.2f} GB in {config.run_dir}"
        + (f", {kept / 1e9:,.2f} GB of them embeddings, each time it scores" if kept else "")
    )
    if advice := materialising_advice(config, training_sets(config, base.size), pool_facts(pool)):
        console.print(advice, soft_wrap=True)
    for warning in plan.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"))
