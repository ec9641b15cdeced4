"""A tiny real run whose pool has a truth beside it, and hostile captions in it."""

import io
import json
import shutil
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from selffilter.config import load_config
from selffilter.pool.writing import sample_members, write_tar
from selffilter.run import run
from selffilter.team import Team
from selffilter.tracking.console import Screen

SHARDS, PER_SHARD, BATCH, ROUNDS = 3, 40, 16, 3
EVIL = "<script>alert(1)</script><img src=https://evil.example/x>\u202e' \" </figcaption> &amp;"


def _picture(seed):
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 10, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize((200, 120), Image.Resampling.BICUBIC).save(out, "PNG")
    return out.getvalue()


def _sample(row):
    image = b"\x89PNG is all there is of it" if row == 3 else _picture(20 if row == 60 else row)
    caption = EVIL if row % 4 == 1 else f"caption {row} of a {'cat' if row % 3 else 'dog'}"
    return f"{row:06d}", sample_members(image, {"uid": f"{row:032x}"}, caption)


@pytest.fixture(scope="session")
def home(tmp_path_factory, tiny_vit):
    """120 samples; a third of the pairs count as planted; row 3 has no picture, 60 that of 20."""
    home = tmp_path_factory.mktemp("reporting")
    for shard in range(SHARDS):
        rows = range(shard * PER_SHARD, (shard + 1) * PER_SHARD)
        write_tar(home / "pool" / f"{shard:05d}.tar", map(_sample, rows))
    (home / "vit.json").write_text(json.dumps(tiny_vit))
    rows = range(SHARDS * PER_SHARD)
    truth = {"uid": [f"{row:032x}" for row in rows], "clean": [row % 3 > 0 for row in rows]}
    pq.write_table(pa.table(truth), home / "truth.parquet")
    return home


def _run(home, name, *more):
    words = [
        f"name={name}", f"runs_dir={home / 'runs'}", f"pool.shards=[{home / 'pool'}]",
        f"pool.index_dir={home / 'index'}", f"model.name={home / 'vit.json'}",
        f"rounds.samples_seen={18 * BATCH}", f"rounds.count={ROUNDS}",
        "rounds.bootstrap_fraction=0.5", "rounds.fresh_weights_at=[1]",
        "select.keep_fraction=0.3", "select.diverse_fraction=0.2", "select.probe_fraction=0.1",
        f"train.global_batch_size={BATCH}", "train.warmup_steps=2", "train.log_every_steps=1",
        "score.bank_size=32", "score.batch_size=16", "track.wandb=disabled",
        "hardware.workers=0", "hardware.accelerator=cpu",
    ]  # fmt: skip
    config = load_config(None, [*words, *more])
    return run(config, Team(torch.device("cpu")), Screen(quiet=True)).root


@pytest.fixture(scope="session")
def begin(home):
    """Return a call that makes another run: name, fields."""
    return lambda name, *more: _run(home, name, *more)


@pytest.fixture(scope="session")
def finished(home):
    """A finished run that has kept its embeddings; nobody may change it."""
    truth = f"evaluate.truth={home / 'truth.parquet'}"
    return _run(home, "<b>finished", truth, "score.keep_embeddings=true")


@pytest.fixture(scope="session")
def by_merit(home):
    """One without truth and embeddings that ranks by merit; nobody may change it."""
    return _run(home, "merit", "select.memory_half_life=1")


@pytest.fixture(scope="session")
def uniform(home):
    """One that keeps nothing for its score; nobody may change it."""
    return _run(home, "uniform", "select.keep_fraction=0", "select.diverse_fraction=1")


@pytest.fixture(scope="session")
def without_duplicates(home):
    """One that takes out row 20 or 60, which have one picture; nobody may change it."""
    return _run(home, "strict", "rounds.count=2", "select.duplicates=exact")


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the first run, to be changed."""
    return shutil.copytree(finished, tmp_path / "copy")


class Seen(HTMLParser):
    """What a browser would find in a page: its elements with their attributes, and its texts."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.by_id, self._ids = [], [], {}, []
        self._depth = 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "section":
            self._ids.append(dict(attrs).get("id") or (self._ids[-1] if self._ids else ""))

    def handle_endtag(self, tag):
        if tag == "section":
            self._ids.pop()

    def handle_data(self, data):
        self.texts.append(data)
        if self._ids:
            self.by_id[self._ids[-1]] = self.by_id.get(self._ids[-1], "") + data + " "

    def all(self, tag, class_=None):
        return [
            attrs
            for name, attrs in self.elements
            if name == tag and (class_ is None or class_ in (attrs.get("class") or "").split())
        ]


@pytest.fixture
def look():
    return Seen
