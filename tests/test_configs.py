"""Every shipped config: it loads, its head says how to run it, the presets are the protocol's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from selffilter.config import Config, flatten, load_config
from selffilter.planning import check_ranks, round_steps

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
ALL = sorted(path for path in CONFIGS.glob("*.yaml") if path.stem not in ("controls", "sweep"))
OPEN_POOL = {"default", "demo"}
"""Configs whose pool the user, or `selffilter demo`, must name."""

DATACOMP = {
    # scale: samples seen, model, global batch, lr, warm-up steps, beta2, ranks of its command
    "small": (12_800_000, "ViT-B-32", 4096, 5e-4, 500, 0.98, 8),
    "medium": (128_000_000, "ViT-B-32", 4096, 5e-4, 500, 0.98, 8),
    "large": (1_280_000_000, "ViT-B-16", 8192, 5e-4, 500, 0.98, 32),
    "xlarge": (12_800_000_000, "ViT-L-14", 90112, 1e-3, 10_000, 0.95, 512),
}
"""arXiv 2304.14108, table of the scales."""


def head(path: Path) -> str:
    """Return the comment that a file begins with, its line breaks undone."""
    lines = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return re.sub(r"\\\n", "", "\n".join(lines))


def load(path: Path) -> Config:
    return load_config(path, ["pool.shards=[/data]"] if path.stem in OPEN_POOL else [])


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_loads(path: Path) -> None:
    load(path)


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_the_head_says_which_command_runs_it(path: Path) -> None:
    commands = [
        line for line in head(path).splitlines() if line.startswith(("torchrun ", "selffilter "))
    ]
    assert commands
    if path.stem == "default":  # the schema: nobody runs it as it is
        return
    named = "selffilter demo" if path.stem == "demo" else f"configs/{path.name}"
    assert any(named in command for command in commands)
    assert "came out" in head(path)


@pytest.mark.parametrize(
    "path", [p for p in ALL if p.stem not in OPEN_POOL], ids=lambda path: path.stem
)
def test_the_words_of_the_heads_commands_are_fields(path: Path) -> None:
    words = [
        word.replace("'", "")
        for line in head(path).splitlines()
        if line.startswith(("torchrun ", "selffilter ", "sbatch "))
        for word in line.split("#")[0].split()
        if re.match(r"[a-z_.]+=", word)
    ]
    assert words
    load_config(path, words)


def test_the_default_config_shows_every_field_with_its_default() -> None:
    shown = flatten(load_config(CONFIGS / "default.yaml", ["pool.shards=[/data]"]))
    assert shown == flatten(load_config(None, ["pool.shards=[/data]"]))
    written = OmegaConf.to_container(OmegaConf.load(CONFIGS / "default.yaml"))
    keys = {
        f"{group}.{key}" if isinstance(fields, dict) else group
        for group, fields in written.items()
        for key in (fields if isinstance(fields, dict) else [group])
    }
    assert keys == set(shown)


def test_there_is_a_preset_for_every_scale() -> None:
    presets = {path.stem for path in CONFIGS.glob("datacomp_*.yaml")}
    assert presets == {f"datacomp_{scale}" for scale in DATACOMP}


@pytest.mark.parametrize("scale", DATACOMP)
def test_a_datacomp_preset_follows_the_protocol(scale: str) -> None:
    samples, model, batch, rate, warmup, beta2, ranks = DATACOMP[scale]
    config = load_config(CONFIGS / f"datacomp_{scale}.yaml")
    train = config.train
    assert (config.model.name, train.global_batch_size) == (model, batch)
    assert (train.learning_rate, train.warmup_steps, train.beta2) == (rate, warmup, beta2)
    assert (train.weight_decay, train.schedule) == (0.2, "cosine")
    assert config.hardware.precision == "bf16-mixed"
    check_ranks(config, ranks)

    seen = sum(steps.steps for steps in round_steps(config)) * batch
    assert samples - batch < seen <= samples
    assert all(steps.steps for steps in round_steps(config))
    assert f"{seen // batch:,} steps of {batch}" in head(CONFIGS / f"datacomp_{scale}.yaml")
