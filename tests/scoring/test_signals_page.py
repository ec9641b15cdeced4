"""What docs/signals.md shows is run as it stands."""

import re
from pathlib import Path

import numpy as np

from selffilter.scoring.signals.find import OURS
from tests.scoring.embeddings.written import datacomp

PAGE = Path("docs/signals.md").resolve()


def test_the_recipe_runs_on_datacomp_metadata(tmp_path, monkeypatch, make_features):
    parts = []
    for n in range(2):
        images, texts = (make_features(100, 4, 2 * n + side, 1.0).numpy() for side in (0, 1))
        parts.append((f"{n}", images, texts, range(100 * n, 100 * n + 100)))
    datacomp(tmp_path / "metadata", parts)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code, names)
    columns = names["columns"]
    assert all(np.isfinite(column).all() for column in columns.values())
    steps = columns["elimination_step"]
    assert ((steps > 0).sum(), (steps == 169).sum()) == (90, 60)
    assert (columns["cosine"][steps > 0].min()) >= columns["cosine"][steps == 0].max()


def test_every_signal_is_on_the_page():
    page = PAGE.read_text()
    assert {name for name in OURS if f"`{name}`" not in page} == set()
