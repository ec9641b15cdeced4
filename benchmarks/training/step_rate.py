"""Training's rate beside that of its model alone, scoring's beside that of its forward alone.

    python benchmarks/training/step_rate.py [--model ViT-B-32] [--batch 512]
        [--precision bf16-mixed] [--compile no] [--workers 8]
    python benchmarks/training/step_rate.py --sweep [--results rates.jsonl]

On the first GPU, or on a CPU if there is none. `--model`, `--batch`, `--precision` and `--compile`
take several values each, and all combinations are measured; `--sweep` has a list of its own for
either kind of device. Each case is a process of its own. With `--results` a case is not measured
again that has its line there: a sweep that was cut off goes on, and with all cases done the table
is printed again.

- *end to end*: `fit`, as the train stage calls it, on shards of photo-like JPEGs (256 px), with
  loaders, the random crop, and a report every 10 steps; no checkpoints;
- *in memory*: the same module in the same `fit`, on one batch that lies on the device;
- *bare*: a loop of forward, loss, backward and fused AdamW on that batch: no Lightning, no average
  of the weights, no look at whether the gradient is finite, no loss scale;
- *scoring*: `PoolPass.score_shards` over the same shards with `neg_clip_loss` and a bank;
- *forward*: what that does with the model, on one batch that lies on the device.

The ways take turns (`--repeat`); rates are of the middle turn, ratios the middle of those taken
turn by turn. Steps at the beginning are left out (`--skip`; with loaders also as many as their
workers may have ready). Memory is what a run logs: on a GPU what torch had allocated in training,
on a CPU what the process had resident. FLOP/s and MFU are of training end to end, as a run has
them.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from rates import Case, measure, middle_ratio

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "pool"))
SHARDS, SAMPLES = 4, 2500
SMALL = str(HERE / "vit_64px.json")

GPU_SWEEP = [
    *itertools.product(
        ["ViT-B-32"], [1024], ["32-true", "16-mixed", "bf16-mixed", "bf16-true"], [False, True]
    ),
    ("ViT-B-32", 4096, "bf16-mixed", True),
    *itertools.product(["ViT-B-16"], [512], ["bf16-mixed"], [False, True]),
    *itertools.product(["RN50"], [512], ["bf16-mixed"], [False, True]),
    *itertools.product(["ViT-L-14"], [256], ["bf16-mixed"], [False, True]),
]
CPU_SWEEP = [
    (SMALL, 64, "32-true", False),
    (SMALL, 64, "32-true", True),
    (str(HERE / "resnet_64px.json"), 64, "32-true", False),
]


def main() -> None:
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=["ViT-B-32" if on_gpu else SMALL])
    parser.add_argument("--batch", nargs="+", type=int, default=[512 if on_gpu else 64])
    parser.add_argument("--precision", nargs="+", default=["bf16-mixed" if on_gpu else "32-true"])
    parser.add_argument("--compile", nargs="+", choices=["no", "yes"], default=["no"])
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--workers", type=int, default=(os.cpu_count() or 1) if on_gpu else 1)
    parser.add_argument("--steps", type=int, default=50 if on_gpu else 8, help="that count")
    parser.add_argument("--skip", type=int, default=8 if on_gpu else 2)
    parser.add_argument("--repeat", type=int, default=1 if on_gpu else 3, help="turns")
    parser.add_argument("--bank", type=int, default=32_768, help="rows")
    parser.add_argument("--folder", type=Path, help="where shards lie or are made")
    parser.add_argument("--results", type=Path, help="JSON lines, one a case")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(Case(**json.load(sys.stdin)), args.folder)))
        return
    asked = itertools.product(
        args.model, args.batch, args.precision, [word == "yes" for word in args.compile]
    )
    if args.sweep:
        asked = GPU_SWEEP if on_gpu else CPU_SWEEP
    cases = [
        Case(
            model_path(model), batch, precision, compiled, args.workers, args.steps, args.skip,
            args.repeat, args.bank,
        )
        for model, batch, precision, compiled in asked
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        print_header(cases[0])
        for case in cases:
            print(row(case, rates_of(case, args.folder or Path(scratch), args.results)), flush=True)


def model_path(model: str) -> str:
    """Return what names a model from any folder."""
    return str(Path(model).resolve()) if model.endswith(".json") else model


def rates_of(case: Case, folder: Path, results: Path | None) -> dict[str, Any]:
    """Return what was measured of a case, or measure it in a process of its own."""
    from photos import write_photo_pool

    asked = {"device": device_name(), **dataclasses.asdict(case)}
    if results is not None and results.exists():
        for line in results.read_text(encoding="utf-8").splitlines():
            known: dict[str, Any] = json.loads(line)
            if all(known[name] == value for name, value in asked.items()):
                return known
    shards = folder.resolve() / "photos"
    write_photo_pool(shards, SHARDS, SAMPLES)
    done = subprocess.run(
        [sys.executable, __file__, "--one", "--folder", str(shards)],
        input=json.dumps(dataclasses.asdict(case)),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        # Not kept: it may have been a neighbour's doing. A sweep goes on with the next case.
        return {"error": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]}
    found = asked | json.loads(done.stdout.splitlines()[-1])
    if results is not None:
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")
    return found


def device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    return f"CPU, {torch.get_num_threads()} thread(s)"


def print_header(case: Case) -> None:
    print(
        f"{device_name()}; torch {torch.__version__}; {case.workers} worker(s), bank of "
        f"{case.bank:,}; {case.repeat} turn(s) of {case.steps} steps\n"
    )
    columns = (
        "model", "batch", "precision", "compile", "end to end/s", "in memory/s", "ratio", "bare/s",
        "ratio", "TFLOP/s", "MFU", "peak MB", "scoring/s", "forward/s", "ratio",
    )  # fmt: skip
    print("| " + " | ".join(columns) + " |")
    print("|---|--:|---|---" + "|--:" * (len(columns) - 4) + "|")


def row(case: Case, found: dict[str, Any]) -> str:
    """Return a row of the table; the ratios are end to end or scoring to what stands before."""
    compiled = "yes" if case.compile else "no"
    cells = [Path(case.model).stem, f"{case.batch:,}", case.precision, compiled]
    if "error" in found:
        return f"| {' | '.join(cells)} | {found['error'][:200].replace('|', ' ')} |"
    per_s = {
        name: statistics.median(found[name])
        for name in ("end_to_end", "in_memory", "bare", "scoring", "forward")
    }
    computed = found["flops"] * per_s["end_to_end"]
    peak = found["peak_flops"]
    whole = found["end_to_end"]
    cells += [
        rate(per_s["end_to_end"]),
        rate(per_s["in_memory"]),
        f"{middle_ratio(whole, found['in_memory']):.2f}",
        rate(per_s["bare"]),
        f"{middle_ratio(whole, found['bare']):.2f}",
        f"{computed / 1e12:.3g}",
        "–" if peak is None else f"{computed / peak:.0%}",
        f"{found['peak_memory_mb']:,.0f}",
        rate(per_s["scoring"]),
        rate(per_s["forward"]),
        f"{middle_ratio(found['scoring'], found['forward']):.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def rate(per_s: float) -> str:
    return f"{per_s:,.0f}" if per_s >= 100 else f"{per_s:.1f}"


if __name__ == "__main__":
    main()
