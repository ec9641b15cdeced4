"""The pool that comes with selffilter: 7,363 clip-arts with the captions their authors wrote.

openclipart is in the public domain. Inside the package it is one Parquet file; on first use it is
laid out as webdataset tars, with a stated share of mismatched captions planted and the truth
*beside* the pool.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from selffilter.pool.noise import Kind, Texts, plant
from selffilter.pool.noise.truth import write_truth
from selffilter.pool.writing import sample_members, write_tar
from selffilter.store import write_json, write_text

ASSETS = Path(__file__).resolve().parent.parent / "assets"
SAMPLES_PER_SHARD = 512


def lay_out_demo(folder: Path, noise: float, seed: int) -> Path:
    """Write pool, truth and evaluation set, if they are not there.

    Args:
        folder: Where the demo's data lies; each (noise, seed) has a folder of its own below it.
        noise: Share of samples that get another's caption.
        seed: Of the noise.

    Returns:
        The folder with ``pool/*.tar``, ``truth.parquet``, ``truth_scores.parquet`` and
        ``eval/openclipart``.
    """
    home = folder / f"openclipart-noise{100 * noise:02g}-seed{seed}"
    if (home / "complete.json").exists():
        return home
    samples = pq.read_table(ASSETS / "openclipart.parquet").to_pylist()
    texts = Texts([s["caption"] for s in samples], [s["label"] for s in samples])
    planted = plant(texts, {Kind.mismatched: round(noise * len(samples))}, seed)
    for shard, first in enumerate(range(0, len(samples), SAMPLES_PER_SHARD)):
        part = range(first, min(first + SAMPLES_PER_SHARD, len(samples)))
        members = ((samples[i]["uid"], _members(samples[i], planted.captions[i])) for i in part)
        write_tar(home / "pool" / f"{shard:05d}.tar", members)
    _write_eval(home / "eval" / "openclipart")
    write_truth(home, [sample["uid"] for sample in samples], texts.captions, planted)
    changed = int((~planted.clean_N).sum())
    write_json(home / "complete.json", {"samples": len(samples), "planted": changed, "seed": seed})
    return home


def _members(sample: dict[str, Any], caption: str) -> dict[str, bytes]:
    # The label stays out of the pool: nothing that trains or selects may see it.
    about = {k: sample[k] for k in ("uid", "source", "url", "license")}
    return sample_members(sample["image"], about, caption)


def _write_eval(folder: Path) -> None:
    samples = pq.read_table(ASSETS / "openclipart_eval.parquet").to_pylist()
    members = [
        (f"s{i:07d}", {"cls": str(s["cls"]).encode(), "webp": s["image"]})
        for i, s in enumerate(samples)
    ]
    write_tar(folder / "test" / "0.tar", members)
    texts = json.loads((ASSETS / "openclipart_eval.json").read_text(encoding="utf-8"))
    for name, lines in {
        "classnames.txt": texts["classnames"],
        "zeroshot_classification_templates.txt": texts["templates"],
        "test/nshards.txt": ["1"],
    }.items():
        write_text(folder / name, "\n".join(lines) + "\n")
