"""A pool, a model and a base config so small that a run takes a second."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from selffilter.pool.demo import ASSETS
from selffilter.pool.writing import sample_members, write_tar
from selffilter.store import write_text

SHARDS, PER_SHARD, BATCH, ROUNDS = 4, 40, 16, 3
MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 12, "width": 16, "heads": 2, "layers": 1, "vocab_size": 49408},
}
BASE = {
    "model": {"name": "model.json"},
    "rounds": {
        "samples_seen": 12 * BATCH,
        "count": ROUNDS,
        "bootstrap_fraction": 0.4,
        "fresh_weights_at": [],
    },
    "train": {
        "global_batch_size": BATCH,
        "warmup_steps": 2,
        "ema_decay": 0.9,
        "log_every_steps": 1,
        "checkpoint_every_steps": 1000,
    },
    "score": {"bank_size": 32, "batch_size": 16},
    "select": {"keep_fraction": 0.4, "diverse_fraction": 0.2, "probe_fraction": 0.1},
    "track": {"wandb": "disabled"},
    "hardware": {"workers": 0, "accelerator": "cpu"},
}


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``base.yaml``, ``shards/`` (160 clip-arts, nothing planted) and ``eval/``."""
    place = tmp_path_factory.mktemp("place")
    samples = pq.read_table(ASSETS / "openclipart.parquet").slice(0, SHARDS * PER_SHARD).to_pylist()
    for shard in range(SHARDS):
        part = samples[shard * PER_SHARD : (shard + 1) * PER_SHARD]
        members = (
            (s["uid"], sample_members(s["image"], {"uid": s["uid"]}, s["caption"])) for s in part
        )
        write_tar(place / "shards" / f"{shard:05d}.tar", members)
    evaluation = pq.read_table(ASSETS / "openclipart_eval.parquet").slice(0, 20).to_pylist()
    pairs = (
        (f"s{i}", {"cls": str(s["cls"]).encode(), "webp": s["image"]})
        for i, s in enumerate(evaluation)
    )
    write_tar(place / "eval" / "test" / "0.tar", pairs)
    texts = json.loads((ASSETS / "openclipart_eval.json").read_text())
    write_text(place / "eval" / "test" / "nshards.txt", "1\n")
    write_text(place / "eval" / "classnames.txt", "\n".join(texts["classnames"]))
    write_text(place / "eval" / "zeroshot_classification_templates.txt", "{c}\n")
    write_text(place / "model.json", json.dumps(MODEL))
    write_text(place / "base.yaml", yaml.safe_dump(BASE))
    return place


@pytest.fixture
def write_experiment(place: Path, tmp_path: Path):
    """Return a function that writes an experiment file on that pool and returns its path."""

    def write(**fields: object) -> Path:
        values = {
            "name": "test",
            "config": str(place / "base.yaml"),
            "out": str(tmp_path / "out"),
            "seeds": [0],
            "pools": [
                {
                    "name": "half",
                    "shards": [str(place / "shards")],
                    "noise": {"kind": "mismatched", "rate": 0.5},
                    "zero_shot": [str(place / "eval")],
                }
            ],
            "methods": ["loop", "uniform", "oracle"],
        } | fields
        path = tmp_path / "experiment.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return write
