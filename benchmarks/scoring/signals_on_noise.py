"""What each signal sees of noise that was planted, and how far the signals agree with each other.

    python benchmarks/scoring/signals_on_noise.py OUT
    python benchmarks/scoring/signals_on_noise.py OUT --shards data/emoji --target data/eval/emoji \
        --label-key label --natural caption_kind:lang_ --seeds 0

For every kind of noise and every seed a model of the demo's size is trained on the pool with the
noise in it: the bootstrap and one round more on the rows it has selected. Both times every signal
scores the whole pool in one pass. The target set is the evaluation set's images. A run that is
there is not repeated. Writes OUT/precision.parquet, OUT/correlations.parquet, OUT/auc.png and
OUT/correlations.png, and prints both tables. Definitions of the noise: docs/noise.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from noise_figures import draw_auc, draw_correlations
from numpy.typing import NDArray
from scipy.stats import spearmanr

from selffilter.config import load_config, shipped_config
from selffilter.evaluation.truth import Truth, area_under_curve
from selffilter.experiments.pools import LaidOut, lay_out
from selffilter.experiments.schema import NoiseSpec, PoolSpec
from selffilter.pool.index import Pool
from selffilter.pool.row_reader import RowReader
from selffilter.randomness import key_from
from selffilter.run import run
from selffilter.scoring.signals.find import OURS
from selffilter.store import RunStore, read_json
from selffilter.tables import read_table, write_table
from selffilter.team import join_team
from selffilter.tracking.console import Screen

KINDS = (
    "mismatched", "boilerplate", "near_duplicate_flood", "text_in_image", "wrong_language",
)  # fmt: skip
UNTOUCHED = "untouched"
ROUNDS = 2
# A classification set has no captions, so these have nothing to be measured against.
WITHOUT_CAPTIONS = ("variance_alignment_text", "variance_alignment_cross")
SIGNALS = tuple(name for name in OURS if name not in WITHOUT_CAPTIONS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--shards", help="of a pool; else the demo's")
    parser.add_argument("--target", type=Path, help="a set in CLIP_benchmark's layout")
    parser.add_argument("--label-key", help="captions are exchanged across labels")
    parser.add_argument(
        "--natural", help="FIELD:PREFIX of the json: rows whose field begins so count as noise too"
    )
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--rate", type=float, default=0.4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--bootstrap", type=int, default=10240, help="samples of the bootstrap")
    parser.add_argument("--samples", type=int, default=17920, help="samples of both rounds")
    parser.add_argument("--resamples", type=int, default=500)
    args = parser.parse_args()
    team, screen = join_team("cpu"), Screen(quiet=True)
    precision: list[dict[str, Any]] = []
    correlations: list[dict[str, Any]] = []
    for seed in args.seeds:
        for kind in (UNTOUCHED, *args.kinds):
            begun = time.perf_counter()
            laid_out = lay_out(_spec(args, kind), seed, args.out / "data", screen)
            store = run(_config(args, kind, seed, laid_out), team, screen)
            found = _scored(store, laid_out, args, kind)
            for row in found:
                row |= {"kind": row.get("kind", kind), "seed": seed}
            precision += [row for row in found if "auc" in row]
            correlations += [row for row in found if "rank_correlation" in row]
            _write(args.out, precision, correlations)
            print(f"{kind}, seed {seed}: {time.perf_counter() - begun:.0f} s", flush=True)
    kinds = list(dict.fromkeys(row["kind"] for row in precision))
    print(_markdown(precision, kinds))


def _write(out: Path, precision: list[dict[str, Any]], correlations: list[dict[str, Any]]) -> None:
    """Write tables and figures of what there is so far."""
    write_table(out / "correlations.parquet", pa.Table.from_pylist(correlations))
    draw_correlations(out / "correlations.png", correlations, SIGNALS)
    if precision:
        write_table(out / "precision.parquet", pa.Table.from_pylist(precision))
        kinds = list(dict.fromkeys(row["kind"] for row in precision))
        draw_auc(out / "auc.png", precision, kinds, SIGNALS)


def _spec(args: argparse.Namespace, kind: str) -> PoolSpec:
    noise = None if kind == UNTOUCHED else NoiseSpec(kind, args.rate)
    if args.shards is None:
        return PoolSpec("pool", demo="openclipart", noise=noise)
    return PoolSpec(
        "pool", (args.shards,), noise=noise, zero_shot=(str(args.target),), label_key=args.label_key
    )


def _config(args: argparse.Namespace, kind: str, seed: int, laid_out: LaidOut) -> Any:
    shipped = shipped_config("demo")
    also = [name for name in SIGNALS if name != "neg_clip_loss"]
    words = [
        f"name={kind}-seed{seed}",
        f"runs_dir={args.out / 'runs'}",
        f"seed={seed}",
        f"pool.shards=[{','.join(laid_out.shards)}]",
        f"model.name={shipped.parent / 'models' / 'tiny_convnext.json'}",
        f"rounds.count={ROUNDS}",
        f"rounds.samples_seen={args.samples}",
        f"rounds.bootstrap_fraction={args.bootstrap / args.samples}",
        f"score.also=[{','.join(also)}]",
        f"score.target={_target(args.out / 'target', Path(laid_out.zero_shot[0]))}",
        "score.keep_embeddings=true",
        "track.wandb=disabled",
    ]
    if laid_out.truth is not None:
        words.append(f"evaluate.truth={laid_out.truth}")
    return load_config(shipped, words)


def _target(folder: Path, evaluation_set: Path) -> Path:
    """Lay the images of an evaluation set out as a target set, which is its train split."""
    if not (folder / "train").exists():
        shutil.copytree(evaluation_set, folder, dirs_exist_ok=True)
        (folder / "test").rename(folder / "train")
    return folder


def _scored(
    store: RunStore, laid_out: LaidOut, args: argparse.Namespace, kind: str
) -> list[dict[str, Any]]:
    """Return what the scores of a run say: against the truth, and against each other."""
    pinned = read_json(store.root / "environment.json")["pool"]
    pool = Pool(Path(pinned["index_dir"]), pinned["version"])
    truths = {}
    if laid_out.truth is not None:
        truths[kind] = Truth(laid_out.truth, pool).is_clean(np.arange(pool.rows))
    elif args.natural is not None:
        field, prefix = args.natural.split(":")
        truths[f"natural {prefix.strip('_')}"] = ~_begins_with(pool, field, prefix)
    rows: list[dict[str, Any]] = []
    kept: dict[str, NDArray[np.float32]] = {}
    for round_ in range(ROUNDS):
        files = sorted(store.stage(round_, "score").glob("*.parquet"))
        table = pa.concat_tables([read_table(path) for path in files])
        usable = table["failure"].to_numpy() == 0
        scores = {n: table[n].to_numpy()[usable] for n in SIGNALS if n in table.column_names}
        for noise, clean in truths.items():
            clean_n = clean[table["row"].to_numpy()[usable]]
            seed = key_from(noise, round_)
            for signal, score_n in scores.items():
                measured = against_truth(score_n, clean_n, args.resamples, seed)
                rows.append({"kind": noise, "round": round_, "signal": signal} | measured)
        rows += [
            {"round": round_, "signal": a, "other": b, "other_round": round_}
            | {"rank_correlation": float(spearmanr(scores[a], scores[b]).statistic)}
            for a in scores
            for b in scores
        ]
        rows += [
            {"round": round_, "signal": name, "other": name, "other_round": round_ - 1}
            | {"rank_correlation": float(spearmanr(before, scores[name]).statistic)}
            for name, before in kept.items()
        ]
        kept = scores
    return rows


def _begins_with(pool: Pool, field: str, prefix: str) -> NDArray[np.bool_]:
    reader = RowReader(pool)
    abouts = (json.loads(reader.member(row, "json") or b"{}") for row in range(pool.rows))
    return np.array([str(about.get(field, "")).startswith(prefix) for about in abouts])


def against_truth(
    score_N: NDArray[np.float32], clean_N: NDArray[np.bool_], resamples: int, seed: int
) -> dict[str, float]:
    """Return AUC, and the precision of as many of the best rows as there are clean ones.

    The interval (95 %) is over resampled rows: of the noise and the pool, not of the training.
    """
    in_order = clean_N[np.argsort(-score_N, kind="stable")].astype(np.int64)
    kept = int(clean_N.sum())
    counts_RN = np.random.default_rng(seed).multinomial(
        len(in_order), np.full(len(in_order), 1 / len(in_order)), size=resamples
    )
    # A row that was drawn several times stands as often in the order; the cut may go through it.
    places_RN = counts_RN.cumsum(axis=1)
    inside_RN = np.clip(kept - (places_RN - counts_RN), 0, counts_RN)
    precision_R = inside_RN @ in_order / kept
    low, high = np.quantile(precision_R, [0.025, 0.975])
    return {
        "auc": area_under_curve(score_N, clean_N),
        "precision": float(in_order[:kept].mean()),
        "low": float(low),
        "high": float(high),
        "chance": float(clean_N.mean()),
        "rows": len(clean_N),
    }


def _markdown(precision: list[dict[str, Any]], kinds: list[str]) -> str:
    """Return precision in the last round, mean over seeds with the mean interval, as a table."""
    last = [row for row in precision if row["round"] == ROUNDS - 1]
    lines = ["| signal | " + " | ".join(kinds) + " |", "|---|" + "--:|" * len(kinds)]
    chance = [np.mean([r["chance"] for r in last if r["kind"] == kind]) for kind in kinds]
    lines.append("| *chance* | " + " | ".join(f"{c:.3f}" for c in chance) + " |")
    for signal in SIGNALS:
        cells = []
        for kind in kinds:
            own = [r for r in last if (r["kind"], r["signal"]) == (kind, signal)]
            mean, low, high = (
                np.mean([r[key] for r in own]) for key in ("precision", "low", "high")
            )
            cells.append(f"{mean:.3f} ({low:.3f}–{high:.3f})")
        lines.append(f"| `{signal}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
