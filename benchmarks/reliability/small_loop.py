"""The run that the reliability benchmarks and tests stop: seconds long, and with most of what a
run can leave on a disk.

160 clip-arts in four shards, some of them broken, two alike, one that is in the evaluation set too;
three rounds, the middle one from fresh weights; scores of two signals, embeddings, clusters,
removals, ranks over rounds, two checkpoints kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from selffilter.pool.demo import ASSETS
from selffilter.pool.writing import sample_members, write_tar

SHARDS, PER_SHARD, BATCH = 4, 40, 16
EVALUATION = 60
STEPS = 12
"""Of the whole run, as long as nothing else is asked for: 5, 3 and 4 in its rounds."""

_MODEL = {
    "embed_dim": 32,
    "vision_cfg": {
        "image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8,
        "patch_dropout": 0.25,
    },
    # Nearly all of its weights are the tokens'.
    "text_cfg": {"context_length": 12, "width": 8, "heads": 1, "layers": 1},
}  # fmt: skip


def lay_out(home: Path) -> Path:
    """Write pool, evaluation set, truth and model below a folder; return the run's config.

    The config's places are relative to the folder in which the run is started: index and run
    directory lie below ``./index`` and ``./runs/small``.
    """
    samples = pq.read_table(ASSETS / "openclipart.parquet").slice(0, SHARDS * PER_SHARD).to_pylist()
    shown = pq.read_table(ASSETS / "openclipart_eval.parquet").slice(0, EVALUATION).to_pylist()
    samples[3]["image"] = b"no image at all"
    samples[50]["image"] = samples[50]["image"][: len(samples[50]["image"]) // 2]
    samples[90]["caption"] = "  "
    samples[120]["image"] = samples[20]["image"]
    samples[70]["image"] = shown[0]["image"]
    for shard in range(SHARDS):
        part = samples[shard * PER_SHARD : (shard + 1) * PER_SHARD]
        members = (
            (s["uid"], sample_members(s["image"], {"uid": s["uid"]}, s["caption"])) for s in part
        )
        write_tar(home / "pool" / f"{shard:05d}.tar", members)
    tests = (
        (f"s{i}", {"cls": str(s["cls"]).encode(), "webp": s["image"]}) for i, s in enumerate(shown)
    )
    write_tar(home / "eval" / "test" / "0.tar", tests)
    texts = json.loads((ASSETS / "openclipart_eval.json").read_text(encoding="utf-8"))
    (home / "eval" / "classnames.txt").write_text("\n".join(texts["classnames"]))
    (home / "eval" / "zeroshot_classification_templates.txt").write_text("{c}\na {c}\n")
    (home / "eval" / "test" / "nshards.txt").write_text("1\n")
    (home / "small-vit.json").write_text(json.dumps(_MODEL))
    path = home / "small.yaml"
    path.write_text(yaml.safe_dump(_config(home.resolve())))
    return path


def _config(home: Path) -> dict[str, Any]:
    return {
        "name": "small",
        "runs_dir": "runs",
        "pool": {"shards": [str(home / "pool")], "index_dir": "index"},
        "model": {"name": str(home / "small-vit.json")},
        "evaluate": {"zero_shot": [str(home / "eval")]},
        "rounds": {
            "samples_seen": STEPS * BATCH, "count": 3, "bootstrap_fraction": 0.4,
            "fresh_weights_at": [1],
        },
        "train": {
            "global_batch_size": BATCH, "warmup_steps": 2, "ema_decay": 0.9, "log_every_steps": 1,
            "checkpoint_every_steps": 2, "keep_checkpoints": 2,
        },
        "score": {"bank_size": 32, "batch_size": 16, "also": ["cosine"]},
        "select": {
            "keep_fraction": [0.6], "diverse_fraction": [0.5], "probe_fraction": 0.1,
            "clusters": 4, "diverse_by": "cluster", "duplicates": "near",
            "without": [str(home / "eval")], "without_cosine": 0.9999,
            "duplicate_cosine": 0.9999, "memory_half_life": 1.0,
        },
        "track": {"wandb": "disabled"},
        "hardware": {"workers": 0, "accelerator": "cpu"},
    }  # fmt: skip
