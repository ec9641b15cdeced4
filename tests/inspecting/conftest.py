"""Tiny real runs over one small pool."""

import io
import json
import shutil
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from selffilter.config import load_config
from selffilter.run import run
from selffilter.team import Team
from selffilter.tracking.console import Screen

SHARDS, PER_SHARD, BATCH, ROUNDS = 3, 40, 16, 3
EVIL = "a\x1b[2J\x1b]0;owned\x07 red\u202e fox\r\nwith \x9b31m a tail " + "and a tail " * 40


def _write_pool(folder):
    """Write 120 pictures; row 3 is broken, 5 lacks its caption, 7's is hostile, 50 is 40 again.

    Row 60 has the picture of row 20.
    """
    for shard in range(SHARDS):
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for place in range(PER_SHARD):
                row = shard * PER_SHARD + place
                for extension, data in _members(row).items():
                    info = tarfile.TarInfo(f"{row:06d}.{extension}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))


def _members(row):
    pixels = np.random.default_rng(20 if row == 60 else row).integers(
        0, 256, (12, 12, 3), dtype=np.uint8
    )
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    uid = f"{40 if row == 50 else row:032x}"
    members = {
        "png": b"no image" if row == 3 else out.getvalue(),
        "txt": EVIL.encode() if row == 7 else f"caption {row}".encode(),
        "json": json.dumps({"uid": uid}).encode(),
    }
    if row == 5:
        del members["txt"]
    return members


@pytest.fixture(scope="session")
def home(tmp_path_factory, tiny_vit):
    home = tmp_path_factory.mktemp("inspecting")
    _write_pool(home / "pool")
    (home / "vit.json").write_text(json.dumps(tiny_vit))
    return home


def _run(home, name, *more):
    words = [
        f"name={name}", f"runs_dir={home / 'runs'}", f"pool.shards=[{home / 'pool'}]",
        f"pool.index_dir={home / 'index'}", f"model.name={home / 'vit.json'}",
        f"rounds.samples_seen={18 * BATCH}", f"rounds.count={ROUNDS}",
        "rounds.bootstrap_fraction=0.5", "rounds.fresh_weights_at=[]",
        "select.keep_fraction=0.3", "select.diverse_fraction=0.2", "select.probe_fraction=0.1",
        f"train.global_batch_size={BATCH}", "train.warmup_steps=2", "score.bank_size=32",
        "score.batch_size=16", "track.wandb=disabled", "hardware.workers=0",
        "hardware.accelerator=cpu",
    ]  # fmt: skip
    config = load_config(None, [*words, *more])
    return run(config, Team(torch.device("cpu")), Screen(quiet=True)).root


@pytest.fixture(scope="session")
def loop(home):
    """A run that ranks by the latest score; nobody may change it."""
    return _run(home, "loop")


@pytest.fixture(scope="session")
def merit(home):
    """Another that ranks by merit; nobody may change it."""
    return _run(home, "merit", "select.memory_half_life=1", "seed=1")


@pytest.fixture(scope="session")
def strict(home):
    """One that removes duplicates and goes by a cut, in two rounds; nobody may change it."""
    return _run(
        home, "strict", "rounds.count=2", "select.duplicates=exact",
        "select.cuts=['keep cosine:0.5']", "score.also=[cosine]", "select.probe_fraction=0",
    )  # fmt: skip


@pytest.fixture
def loop_copy(loop, tmp_path):
    """A copy of the first run, to be changed."""
    return shutil.copytree(loop, tmp_path / "loop")
