"""The selecting of a run, from the bootstrap's and from a later round: seconds and memory.

python benchmarks/selecting/stage.py --folder /tmp/stage --rows 1_000_000 16_000_000

More than `scale.py`, which writes a selection and no more: here the round's summary is made too,
with what has moved since the round before, whom the selection favours, and the memorisation cue.
An index, and score tables of two rounds whose scores correlate with .8, are made up first (some 170
bytes a row, kept for the next time); each round is then selected in a process of its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "pool"))
from index_rate import step_version, write_shards

from selffilter.config import Config, load_config
from selffilter.interrupt import StopRequest
from selffilter.planning import round_steps
from selffilter.pool.base import Base
from selffilter.pool.index import Pool
from selffilter.scoring.table import score_table
from selffilter.stages.context import RunContext
from selffilter.stages.select import select
from selffilter.store import RunStore
from selffilter.tables import shard_file, write_table
from selffilter.team import Team
from selffilter.threads import several
from selffilter.tracking.console import Screen
from selffilter.tracking.trackers import Trackers

ROUNDS = 2


def config_of(folder: Path, rows: int) -> Config:
    """A run that passes twice over what it selects."""
    return load_config(
        None,
        [
            "name=run", f"runs_dir={folder}", "pool.shards=[/s]", f"pool.index_dir={folder}/index",
            f"rounds.count={ROUNDS + 1}", f"rounds.samples_seen={rows}",
            "train.global_batch_size=4096", "select.probe_fraction=0.005", "track.wandb=disabled",
        ],
    )  # fmt: skip


def open_context(config: Config) -> RunContext:
    pool = Pool.latest(Path(config.pool.index_dir))
    return RunContext(
        config=config,
        store=RunStore(config.run_dir),
        team=Team(torch.device("cpu")),
        screen=Screen(quiet=True),
        tracker=Trackers([]),
        recipe=None,  # nothing is encoded
        pool=pool,
        base=Base.of(pool, config),
        schedule=round_steps(config),
        stop=StopRequest(),
    )


def make(folder: Path, rows: int) -> None:
    """Make up an index and the score tables of the rounds, once."""
    marker, config = folder / "made", config_of(folder, rows)
    if marker.exists():
        return
    write_shards(folder / "index", rows)
    step_version(folder / "index", rows)
    context = open_context(config)

    def write(shard: int) -> None:
        rng, rows_n = np.random.default_rng(shard), context.base.readable(shard)
        n = len(rows_n)
        lasting = rng.standard_normal(n)
        facts = {
            "caption_chars": rng.integers(5, 300, n).astype(np.uint32),
            "script": rng.choice(np.array([1, 2, 3], np.uint8), n, p=[0.8, 0.15, 0.05]),
        }
        for round_ in range(ROUNDS):
            score = 0.2 + 0.06 * (0.8**0.5 * lasting + 0.2**0.5 * rng.standard_normal(n))
            columns = {config.score.signal: score.astype(np.float32)}
            failures = np.zeros(n, np.uint8)
            table = score_table(context.base, shard, rows_n, columns, failures, round_, facts=facts)
            path = shard_file(context.store.stage(round_, "score"), shard)
            write_table(path, table, durable=False)

    for _ in several(write, range(context.pool.shards)):
        pass
    for round_ in range(ROUNDS):
        context.store.mark_done(round_, "score", {"signal": config.score.signal})
    marker.touch()


def one(folder: Path, rows: int, round_: int) -> None:
    """Select in this process, and say what it took."""
    config, begin = config_of(folder, rows), time.perf_counter()
    context = open_context(config)
    opened = time.perf_counter()
    summary = select(context, context.schedule[round_])
    took = time.perf_counter() - opened
    context.store.mark_done(round_, "select", summary)
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {"open": opened - begin, "select": took, "cpu": used.ru_utime + used.ru_stime}
    print(json.dumps(found | {"peak_gb": used.ru_maxrss / 2**20, "kept": summary.get("kept")}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rows", type=int, nargs="*", default=[1_000_000, 16_000_000])
    parser.add_argument("--one", type=int, metavar="ROUND")
    asked = parser.parse_args()
    if asked.one is not None:
        one(asked.folder, asked.rows[0], asked.one)
        return
    print("         rows  round  open s  select s  µs a row  CPU s  peak GB  bytes a row")
    for rows in asked.rows:
        folder = asked.folder / f"{rows}"
        make(folder, rows)
        for round_ in range(ROUNDS):
            words = [sys.executable, __file__, "--folder", str(folder), "--rows", str(rows)]
            done = subprocess.run(
                [*words, "--one", str(round_)], check=True, stdout=subprocess.PIPE, text=True
            )
            took = json.loads(done.stdout.splitlines()[-1])
            print(f"{rows:>13,} {round_:>6} {took['open']:>7.1f} {took['select']:>9.1f} "
                  f"{took['select'] / rows * 1e6:>9.3f} {took['cpu']:>6.1f} "
                  f"{took['peak_gb']:>8.2f} {took['peak_gb'] * 2**30 / rows:>12.1f}",
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
