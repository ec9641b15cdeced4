"""configs/sweep.yaml: what an agent of W&B would start, started."""

import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from selffilter.config import load_config, read_run_config
from selffilter.store import read_json

SWEEP = OmegaConf.to_container(
    OmegaConf.load(Path(__file__).resolve().parent.parent / "configs" / "sweep.yaml"), resolve=False
)
TINY = [
    "rounds.samples_seen=192", "rounds.bootstrap_fraction=0.34", "train.global_batch_size=32",
    "train.warmup_steps=1", "train.log_every_steps=1", "score.bank_size=64",
    "hardware.accelerator=cpu", "evaluate.zero_shot=[]", "rounds.final_selection=false",
    "track.wandb=offline",
]  # fmt: skip


def command(values):
    """Return what wandb's agent makes of the file's command (`Agent._command_run`, 0.31)."""
    found = {"program": [SWEEP["program"]], "env": ["/usr/bin/env"]}
    found |= create_sweep_command_args({"args": {k: {"value": v} for k, v in values.items()}})
    words = []
    for word in create_sweep_command(list(SWEEP["command"])):
        macro = word.startswith("${") and word.endswith("}")
        words += found[word[2:-1]] if macro else [word]
    return words


def choices():
    """Return each value of each parameter; of a range its ends."""
    for key, spec in SWEEP["parameters"].items():
        for value in spec.get("values", [spec.get("min"), spec.get("max")]):
            yield pytest.param(key, value, id=f"{key}={value}")


@pytest.mark.parametrize(("key", "value"), choices())
def test_every_value_is_one_that_a_run_may_have(key, value, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "abc123")
    words = command({key: value})
    assert words[:3] == ["/usr/bin/env", "selffilter", "demo"]
    config = load_config(None, ["pool.shards=[pool]", *words[3:]])
    assert config.name == "sweep-abc123" and config.track.wandb_job_type == "sweep"


def test_what_is_optimised_is_what_a_demo_logs():
    zero_shot, name, key = SWEEP["metric"]["name"].split("/")
    assert (zero_shot, name) == ("zero_shot", "openclipart") and key == "mean_per_class_recall"


def test_an_agents_command_runs(tmp_path, monkeypatch):
    for name, value in {"WANDB_RUN_ID": "abc123", "WANDB_SWEEP_ID": "sweep1"}.items():
        monkeypatch.setenv(name, value)
    values = {
        "train.learning_rate": 0.001, "select.keep_fraction": "[0.2,0.3]", "rounds.count": 2,
    }  # fmt: skip
    _, program, *words = command(values)
    assert program == "selffilter"
    done = subprocess.run(
        [sys.executable, "-m", "selffilter", *words, *TINY],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "sweep-abc123"
    assert read_json(run / "wandb.json")["id"] == "abc123"
    assert list((run / "wandb").glob("offline-run-*-abc123/run-abc123.wandb"))
    config = read_run_config(run / "config.yaml")
    assert config.train.learning_rate == 0.001
    assert list(config.select.keep_fraction) == [0.2, 0.3]
