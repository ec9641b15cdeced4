"""`selffilter demo`: the whole loop on real clip-art, with the uniform control and the oracle."""

from __future__ import annotations

from pathlib import Path

from selffilter.config import Config, load_config, read_run_config, shipped_config
from selffilter.errors import UserError
from selffilter.experiments.controls import Method, read_controls, words
from selffilter.experiments.facts import PoolFacts
from selffilter.pool.demo import lay_out_demo
from selffilter.pool.index import Pool
from selffilter.run import run
from selffilter.rundir.forking import fork
from selffilter.store import RunStore, iterate_jsonl, read_json
from selffilter.team import Team
from selffilter.tracking.console import Screen, what_lies_where

CONTROLS = ("uniform", "oracle")
"""What `--compare` sets beside the loop; see configs/controls.yaml."""


def run_demo(
    team: Team, out: Path, noise: float, seed: int, compare: bool, overrides: list[str]
) -> None:
    """Lay out the pool, run the loop, and say what to do next.

    Args:
        team: The ranks.
        out: Where pool and runs go.
        noise: Share of captions that are swapped, in [0, 0.9].
        seed: Of noise and run.
        compare: Also train the two controls.
        overrides: Fields of the config, ``key=value``.

    Raises:
        UserError: If the noise cannot be planted, or a field is wrong.
    """
    if not 0 <= noise <= 0.9:
        raise UserError(f"--noise {noise} is not in [0, 0.9].")
    screen = Screen(quiet=not team.is_main)
    home = Path(team.decide(lambda: str(lay_out_demo(out / "demo-data", noise, seed))))
    name = f"demo-noise{100 * noise:02g}-seed{seed}"
    config = _demo_config(home, out, name, seed, overrides)
    planted = read_json(home / "complete.json")
    screen.say(
        f"{planted['samples']:,} clip-arts, {planted['planted']:,} of them with another's caption "
        f"(the truth lies beside the pool, in {home}/truth.parquet).\n"
    )
    store = run(config, team, screen)
    if compare:
        stores = {"self-filtering": store}
        for name in CONTROLS:
            method = read_controls()[name]
            screen.say(f"\n{name}: {method.about}")
            screen.begin_table()
            stores[name] = _train_control(store, method, team, screen)
        screen.say("\n" + team.decide(lambda: comparison_table(stores)))
    screen.say(what_lies_where(store))
    screen.say(_next_steps(store))


def _demo_config(home: Path, out: Path, name: str, seed: int, overrides: list[str]) -> Config:
    shipped = shipped_config("demo")
    return load_config(
        shipped,
        [
            f"name={name}",
            f"runs_dir={out}",
            f"seed={seed}",
            f"pool.shards=[{home / 'pool'}]",
            f"model.name={shipped.parent / 'models' / 'tiny_convnext.json'}",
            f"evaluate.zero_shot=[{home / 'eval' / 'openclipart'}]",
            f"evaluate.truth={home / 'truth.parquet'}",
            f"track.wandb_group={name}",
            "track.wandb_job_type=loop",
            *overrides,
        ],
    )


def _train_control(loop: RunStore, method: Method, team: Team, screen: Screen) -> RunStore:
    """Train a control beside the loop, or go on with it."""
    config = load_config(loop.config_path, team.decide(lambda: _changes(loop, method)))

    def fork_once() -> None:
        if method.start == "bootstrap" and not RunStore(config.run_dir).config_path.exists():
            fork(loop, config, from_round=0)

    team.decide(fork_once)
    return run(config, team, screen)


def _changes(loop: RunStore, method: Method) -> list[str]:
    config = read_run_config(loop.config_path)
    pinned = read_json(loop.root / "environment.json")["pool"]
    pool = Pool(Path(pinned["index_dir"]), pinned["version"], config.pool.caption_key)
    inputs = loop.root.parent / "demo-data" / "inputs" / config.name
    facts = PoolFacts(pool, config, lambda _: loop, inputs)
    own = [f"name={config.name}-{method.name}", f"track.wandb_job_type={method.name}"]
    return [*words(method.changes, facts), *own]


def comparison_table(stores: dict[str, RunStore]) -> str:
    """Return one line a run: what it saw, what it cost, and how good it is.

    Args:
        stores: Kind → finished run.
    """
    lines = [
        f"{'':16}{'samples seen':>14}{'of them clean':>15}"
        f"{'acc1 %':>9}{'recall %':>10}{'PFLOPs':>9}"
    ]
    for kind, store in stores.items():
        compute = read_json(store.final / "compute.json")
        last = [r for r in iterate_jsonl(store.root / "metrics.jsonl") if r["kind"] == "zero_shot"][
            -1
        ]
        flops = (compute["training_flops"] + compute["scoring_flops"]) / 1e15
        lines.append(
            f"{kind:16}{int(compute['samples_seen']):>14,}{compute['clean_share']:>15.3f}"
            f"{100 * last['acc1']:>9.1f}{100 * last['mean_per_class_recall']:>10.1f}{flops:>9.3f}"
        )
    lines.append("One seed on 621 test images: differences of a few points are noise.")
    return "\n".join(lines)


def _next_steps(store: RunStore) -> str:
    return (
        "\nNext:\n"
        f"  selffilter status {store.root}\n"
        "  selffilter demo --compare    the uniform control and the oracle beside it\n"
        f"  selffilter fork {store.root} --name cosine score.signal=cosine\n"
        "  selffilter plan configs/img2dataset.yaml pool.shards='[/your/shards]'"
    )
