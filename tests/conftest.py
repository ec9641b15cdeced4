"""What several tests need: a tar, a picture, a small pool, a model, a call of a command."""

import io
import sys
import tarfile

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image

from selffilter.cli import main
from selffilter.pool.index import Pool, build_index

# The models of the tests are so small that a second thread costs more than it brings.
torch.set_num_threads(1)

# Tests check behaviour and never time: a busy machine must not fail a property. The same examples
# every time, so that what lands does not depend on luck; `--hypothesis-profile=explore` looks
# further.
settings.register_profile("selffilter", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile("selffilter")


def write_tar(path, samples, tar_format=tarfile.USTAR_FORMAT):
    """Write ``[(key, {extension: bytes}), …]`` as a tar, members in the order given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tar_format) as tar:
        for key, members in samples:
            for extension, data in members.items():
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def encode_picture(seed=0, size=(12, 10), form="PNG"):
    """Return the bytes of a picture of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form)
    return out.getvalue()


@pytest.fixture
def make_tar():
    return write_tar


@pytest.fixture
def picture():
    return encode_picture


@pytest.fixture
def tiny_pool(tmp_path):
    """Three shards of 4, 1 and 3 samples; row i has the picture of seed i and "caption i"."""
    row = 0
    for shard, size in enumerate((4, 1, 3)):
        samples = []
        for _ in range(size):
            members = {"png": encode_picture(row), "txt": f"caption {row}".encode()}
            samples.append((f"{row:04d}", members))
            row += 1
        write_tar(tmp_path / "pool" / f"{shard:05d}.tar", samples)
    index_dir = tmp_path / "index"
    return Pool(index_dir, build_index([str(tmp_path / "pool")], index_dir))


@pytest.fixture(scope="session")
def tiny_vit():
    """The config of a model as open_clip's are, for pictures of 16 pixels; nobody may change it."""
    return {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 16, "layers": 1, "width": 16, "head_width": 16, "patch_size": 8,
        },
        "text_cfg": {"context_length": 12, "width": 16, "heads": 2, "layers": 1},
    }  # fmt: skip


@pytest.fixture
def call(monkeypatch, tmp_path, capsys):
    """Return a call of the command line in tmp_path: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["selffilter", *map(str, words)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        said = capsys.readouterr()
        return code, said.out, said.err

    return run
