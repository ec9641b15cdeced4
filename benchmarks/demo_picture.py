"""Draw what a finished run with known truth shows: its curves, and what it keeps and drops.

python benchmarks/demo_picture.py runs/demo-noise50-seed0 docs/figures/demo.png
"""

import json
import sys
import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pyarrow.parquet as pq

from selffilter.config import read_run_config
from selffilter.pool.decoding import decode_image
from selffilter.pool.index import Pool
from selffilter.pool.row_reader import RowReader
from selffilter.randomness import draw
from selffilter.store import RunStore, iterate_jsonl

KEPT, DROPPED, GREY = "#0072B2", "#D55E00", "#777777"
SHOWN = 8


def main(root: Path, out: Path) -> None:
    store = RunStore(root)
    config = read_run_config(store.config_path)
    pinned = json.loads((root / "environment.json").read_text())["pool"]
    pool = Pool(Path(pinned["index_dir"]), pinned["version"], config.pool.caption_key)

    figure = plt.figure(figsize=(11, 6.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.75))
    curves(left.subplots(2, 1), store)
    examples(right, store, pool, config.score.signal)
    figure.savefig(out, dpi=110)


def curves(axes, store: RunStore) -> None:
    records = list(iterate_jsonl(store.root / "metrics.jsonl"))
    rounds = [r for r in records if r["kind"] == "round_summary"]
    shots = [r for r in records if r["kind"] == "zero_shot" and "mean_per_class_recall" in r]
    seen = [r["samples_seen"] / 1000 for r in rounds]
    top, bottom = axes
    for key, label, colour, above in (
        ("auc", "AUC of the scores", KEPT, 9),
        ("precision", "precision of the confident share", GREY, -16),
    ):
        top.plot(seen, [r[key] for r in rounds], "o-", color=colour)
        top.annotate(label, (seen[0], rounds[0][key]), (4, above), textcoords="offset points",
                     color=colour, fontsize=9)  # fmt: skip
    top.set_title("the scores against the planted truth", fontsize=10, loc="left")
    top.set_ylim(0.5, 1)
    recall = [100 * s["mean_per_class_recall"] for s in shots]
    bottom.plot([s["samples_seen"] / 1000 for s in shots], recall, "o-", color=KEPT)
    title = "zero-shot mean per-class recall, %, 33 classes of clip-art"
    bottom.set_title(title, fontsize=10, loc="left")
    bottom.set_ylim(0)
    bottom.set_xlabel("thousand samples seen", fontsize=9)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        for boundary in seen:
            axis.axvline(boundary, color=GREY, lw=0.5, ls=":")
        axis.tick_params(labelsize=8)


def examples(figure, store: RunStore, pool: Pool, signal: str) -> None:
    last = store.rounds()[-1]
    files = sorted(store.stage(last, "score").glob("*.parquet"))
    table = pq.read_table([str(f) for f in files], columns=["row", signal, "failure", "probe"])
    usable = (table["failure"].to_numpy() == 0) & ~table["probe"].to_numpy()
    rows, scores = table["row"].to_numpy()[usable], table[signal].to_numpy()[usable]
    order = np.argsort(-scores)
    tenth = len(order) // 10
    reader = RowReader(pool)
    kept, dropped = figure.subfigures(2, 1)
    for part, title, among, colour in (
        (kept, "from the tenth it trusts most", rows[order[:tenth]], KEPT),
        (dropped, "from the tenth it trusts least", rows[order[-tenth:]], DROPPED),
    ):
        part.suptitle(title, color=colour, fontsize=10, x=0.02, ha="left")
        for axis, row in zip(part.subplots(2, 4).flat, draw(among, SHOWN, 7), strict=True):
            image, caption = reader.read(int(row))
            axis.imshow(decode_image(image, 10**8))
            text = "\n".join(textwrap.wrap(caption.decode().replace("$", ""), 24)[:2])
            axis.set_xlabel(text, fontsize=7)
            axis.set_xticks([])
            axis.set_yticks([])
            for spine in axis.spines.values():
                spine.set_color(colour)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
