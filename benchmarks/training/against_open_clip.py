"""Our trainer and open_clip's own, side by side: the losses, and the rate and memory.

    python -m venv compare && compare/bin/pip install -e .
    compare/bin/pip install pandas 'webdataset<=0.2.86'
    export OMP_NUM_THREADS=1
    compare/bin/python benchmarks/training/against_open_clip.py curve [--fused | --nudged]
    compare/bin/python benchmarks/training/against_open_clip.py rate [--workers 0] [--repeat 3]

An environment of its own, because open_clip's trainer (`open_clip_train`, in open_clip's wheel)
imports pandas and cannot read tars with webdataset 1.0 (open_clip 3.3.0: KeyError 'fname'). Each
side runs in a process of its own, on one thread of the CPU, in fp32. What either is asked is a
`Job` (job.py).

*curve*: the same initial weights, and the same samples in the same order: ours are the batches of
the plan over the demo's clip-arts; for open_clip these are written, in that order, as a tar that
its loader reads unshuffled. Both use the transform of evaluation. Ours has torch's fused AdamW,
open_clip by default torch's loop over the parameters, which rounds differently: with `--fused` it
has the fused one too. What such a rounding grows to is the model's doing: `--nudged` compares
open_clip's trainer with itself, one weight of the image tower's first layer moved by one rounding.

*rate*: the same tars of photo-like JPEGs (256 px), each side with its own loader and shuffling, and
the random crop. The sides take turns, and who begins changes from turn to turn. A rate is that
between the beginnings of the step `--skip` and of the last: reading, decoding, reports, all that a
step costs once training is under way, but for checkpoints, of which neither side writes one. What
is shown is the middle of the turns and, in brackets, the least and the most; ratios are taken turn
by turn, and above 1 ours is better. The fastest step is that of all turns: what neighbours on the
machine cost is not in it, and neither is what is not done at every step. CPU time is that of the
trainer's process alone: it has the data in it with no workers, and not with some.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from job import SEED, Job, Record

HERE = Path(__file__).resolve().parent
TINY = HERE.parents[1] / "configs" / "models" / "tiny.json"
RATE_SHARDS, RATE_SAMPLES = 4, 2500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["curve", "rate", "one"])
    parser.add_argument("--model", help="a name of open_clip's or a JSON model config")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--repeat", type=int, default=3, help="turns of each side (rate)")
    parser.add_argument("--skip", type=int, default=3, help="first steps left out (rate)")
    parser.add_argument("--folder", type=Path, help="where shards lie or are made")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--fused", action="store_true", help="open_clip with fused AdamW (curve)")
    kind.add_argument("--nudged", action="store_true", help="open_clip with itself (curve)")
    parser.add_argument("--losses", type=Path, help="JSON to write the losses to (curve)")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.what == "one":
        one(args.side)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = (args.folder or Path(scratch)).resolve()
        {"curve": curve, "rate": rate}[args.what](args, folder)


def curve(args: argparse.Namespace, folder: Path) -> None:
    """Compare the losses of all steps."""
    import torch
    from selffilter_side import plan_of, pool_of

    from selffilter.clip.model import find_recipe, save_weights
    from selffilter.pool.demo import lay_out_demo

    steps = args.steps or 50
    shards = lay_out_demo(folder, noise=0.0, seed=SEED) / "pool"
    pool = pool_of(shards)
    plan = plan_of(pool, args.batch)
    in_order = folder / f"in-order-{args.batch}-{steps}"
    write_in_order(pool, [int(row) for s in range(steps) for row in plan.batch(s)], in_order)

    torch.manual_seed(SEED)
    model = model_path(args.model or str(TINY))
    weights = folder / "initial.safetensors"
    save_weights(weights, dict(find_recipe(model).build().state_dict()))
    job = Job(
        model, str(weights), str(shards), pool.rows, steps, args.batch,
        workers=1 if args.workers is None else args.workers, augment=False, in_order=True,
    )  # fmt: skip
    in_tars = dataclasses.replace(job, shards=str(in_order), fused=args.fused)
    theirs = run("open_clip", in_tars).losses
    if args.nudged:
        nudged = nudge(weights, folder / "nudged.safetensors")
        ours = run("open_clip", dataclasses.replace(in_tars, weights=str(nudged))).losses
    else:
        ours = run("selffilter", job).losses
    this = "nudged" if args.nudged else "selffilter"
    if args.losses:
        both = {this: ours, "open_clip": theirs}
        args.losses.write_text(json.dumps(both, indent=1) + "\n", encoding="utf-8")

    print(
        f"{Path(model).stem}, batch {args.batch}, {job.workers} worker(s), fp32 on one CPU thread"
        f"{', AdamW fused on both sides' if args.fused else ''}"
    )
    print(f"{'step':>5} {this:>11} {'open_clip':>11} {'difference':>11}")
    for step in sorted({0, 1, 2, steps // 4, steps // 2, 3 * steps // 4, steps - 1}):
        a, b = ours[step], theirs[step]
        print(f"{step:>5} {a:>11.7f} {b:>11.7f} {a - b:>11.1e}")
    apart = [abs(a - b) for a, b in zip(ours, theirs, strict=True)]
    print(f"largest difference of {steps} steps: {max(apart):.1e} (step {apart.index(max(apart))})")
    if max(apart) > 1e-5 and not args.nudged:
        sys.exit("they differ by more than 1e-5")


def nudge(weights: Path, nudged: Path) -> Path:
    """Write weights of which one is the next larger number."""
    import torch

    from selffilter.clip.model import load_weights, save_weights

    found = load_weights(weights)
    first = found["visual.conv1.weight"].flatten()
    first[0] = torch.nextafter(first[0], torch.tensor(torch.inf))
    save_weights(nudged, found)
    return nudged


def write_in_order(pool, rows: list[int], folder: Path) -> None:
    """Write rows as one tar, in the order given; a row may stand there again."""
    import numpy as np

    from selffilter.pool.row_reader import RowReader
    from selffilter.pool.writing import write_tar

    def samples() -> Iterator[tuple[str, dict[str, bytes]]]:
        reader = RowReader(pool)
        for place, row in enumerate(rows):
            [(image, caption)] = reader.read(np.array([row]), ("image", "caption"))
            # open_clip's decoder goes by what the bytes are, not by the name's end.
            yield f"{place:08d}", {"webp": image, "txt": caption}

    write_tar(folder / "00000.tar", samples())


def rate(args: argparse.Namespace, folder: Path) -> None:
    """Measure samples per second and memory, by turns."""
    sys.path.insert(0, str(HERE.parent / "pool"))
    from photos import write_photo_pool

    shards = folder / "photos"
    write_photo_pool(shards, RATE_SHARDS, RATE_SAMPLES)
    job = Job(
        model_path(args.model or str(HERE / "vit_64px.json")), None, str(shards),
        RATE_SHARDS * RATE_SAMPLES, args.steps or 15, args.batch, workers=args.workers or 0,
    )  # fmt: skip
    sides = {
        "open_clip": ("open_clip", job),
        "selffilter, no average": ("selffilter", dataclasses.replace(job, averages=False)),
        "selffilter": ("selffilter", job),
    }
    found: dict[str, list[Record]] = {name: [] for name in sides}
    for turn in range(args.repeat):
        names = list(sides)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            found[name].append(run(*sides[name]))

    print(
        f"{Path(job.model).stem}, batch {job.batch_size}, {job.workers} worker(s), fp32 on one CPU "
        f"thread; {args.repeat} turns of {job.steps} steps, the first {args.skip} left out"
    )
    print(
        f"{'':>23} {'samples/s':>21} {'ratio':>17} {'CPU s/step':>19} {'ratio':>17} "
        f"{'fastest s':>9} {'ratio':>5} "
        f"{'peak MB':>8} {'above start':>11} {'a worker':>8}"
    )
    base = measured(found["open_clip"], job, args.skip)
    least = fastest(found["open_clip"], args.skip)
    for name, records in found.items():
        rates, costs = measured(records, job, args.skip)
        memory = [
            statistics.median(values)
            for values in zip(
                *((r.peak_mb, r.peak_mb - r.resident_mb, r.worker_mb) for r in records),
                strict=True,
            )
        ]
        print(
            f"{name:>23} {spread(rates, 1):>21} {spread(over(rates, base[0]), 2):>17} "
            f"{spread(costs, 2):>19} {spread(over(base[1], costs), 2):>17} "
            f"{fastest(records, args.skip):>9.2f} {least / fastest(records, args.skip):>5.2f} "
            f"{memory[0]:>8,.0f} {memory[1]:>11,.0f} {memory[2]:>8,.0f}"
        )


def measured(records: list[Record], job: Job, skip: int) -> tuple[list[float], list[float]]:
    """Return samples per second and CPU seconds a step, of each turn."""
    steps = job.steps - 1 - skip
    rates = [steps * job.batch_size / (r.wall_s[-1] - r.wall_s[skip]) for r in records]
    return rates, [(r.cpu_s[-1] - r.cpu_s[skip]) / steps for r in records]


def fastest(records: list[Record], skip: int) -> float:
    """Return the seconds of the fastest step of all turns."""
    return min(b - a for r in records for a, b in itertools.pairwise(r.wall_s[skip:]))


def over(a: list[float], b: list[float]) -> list[float]:
    """Return the ratios, turn by turn."""
    return [x / y for x, y in zip(a, b, strict=True)]


def spread(values: list[float], digits: int) -> str:
    """Return the middle (least-most)."""
    middle, least, most = (
        f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values))
    )
    return f"{middle} ({least}-{most})"


def model_path(model: str) -> str:
    """Return what names a model from any folder."""
    return str(Path(model).resolve()) if model.endswith(".json") else model


def run(side: str, job: Job) -> Record:
    """Do a job in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "one", "--side", side],
        input=json.dumps(dataclasses.asdict(job)),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{side}:\n{done.stderr}")
    return Record(**json.loads(done.stdout.splitlines()[-1]))


def one(side: str) -> None:
    """Do the job that standard input describes; the record is the last line of the output."""
    import torch

    torch.set_num_threads(1)
    job = Job(**json.load(sys.stdin))
    if side == "open_clip":
        from open_clip_side import train
    else:
        from selffilter_side import train
    record = train(job)
    gc.collect()
    if job.workers:
        record.leave()
    print(json.dumps(dataclasses.asdict(record)))


if __name__ == "__main__":
    main()
