"""A run in micro-batches, with the sigmoid loss: the same rows, loss and selection; resumable."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from test_end_to_end import BATCH, MODEL, config_of, go, home, read_stage

from selffilter.clip.model import SIGMOID_LOGIT_SCALE, find_recipe
from selffilter.config import Config
from selffilter.stages import train as stage
from selffilter.store import RunStore, iterate_jsonl
from selffilter.training.state import TrainState

__all__ = ["home"]
STEPS = 5


def sigmoid_model(home: Path, **vision: object) -> Path:
    path = home / f"sigmoid{len(vision)}.json"
    config = MODEL | {"init_logit_bias": -10, "vision_cfg": MODEL["vision_cfg"] | vision}
    path.write_text(json.dumps(config))
    return path


def one_round(home: Path, runs: Path, name: str, model: Path, *more: str) -> Config:
    return config_of(
        home, runs, name, f"model.name={model}", "rounds.count=1", "rounds.final_selection=true",
        f"rounds.samples_seen={STEPS * BATCH}", *more,
    )  # fmt: skip


def losses(store: RunStore) -> list[float]:
    records = iterate_jsonl(store.root / "metrics.jsonl")
    return [r["loss"] for r in records if r["kind"] == "train"]


def test_micro_batches_train_on_the_same_rows_with_the_same_augmentation(
    home: Path, tmp_path: Path
) -> None:
    model = sigmoid_model(home, patch_dropout=0.0)
    whole = go(one_round(home, tmp_path, "whole", model))
    parts = go(one_round(home, tmp_path, "parts", model, "train.micro_batch_size=3"))
    assert len(losses(parts)) == STEPS
    np.testing.assert_allclose(losses(parts), losses(whole), rtol=1e-4)
    a, b = (read_stage(s.stage(0, "select"), columns=["row"])["row"] for s in (whole, parts))
    common = len(np.intersect1d(a.to_numpy(), b.to_numpy()))
    assert common / len(np.union1d(a.to_numpy(), b.to_numpy())) > 0.95
    exported = open_clip.create_model(f"local-dir:{parts.final}")
    assert float(exported.logit_bias) == pytest.approx(-10, abs=0.1)
    assert float(exported.logit_bias) != -10


def test_stopped_between_micro_batched_steps_and_continued_equals_uninterrupted(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, micro = sigmoid_model(home), "train.micro_batch_size=3"
    whole = go(one_round(home, tmp_path, "whole", model, micro))

    class Killed(BaseException):
        pass

    def die(context, kind, round_, stage_, step, values, log=stage.RunContext.log):
        log(context, kind, round_, stage_, step, values)
        if kind == "train" and step == 3:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(stage.RunContext, "log", die)
        with pytest.raises(Killed):
            go(one_round(home, tmp_path, "stopped", model, micro))
    stopped = go(one_round(home, tmp_path, "stopped", model, micro))
    assert losses(stopped) == losses(whole)
    x, y = (TrainState.load(store.state(0)) for store in (whole, stopped))
    assert all(torch.equal(x.model[name], y.model[name]) for name in x.model)
    assert all(torch.equal(x.ema[name], y.ema[name]) for name in x.ema)


def test_a_model_with_a_bias_begins_where_open_clips_trainer_begins_with_siglip(home: Path) -> None:
    model = find_recipe(str(sigmoid_model(home))).build()
    assert float(model.logit_bias) == -10
    assert float(model.logit_scale) == pytest.approx(SIGMOID_LOGIT_SCALE) == math.log(10)
    own = home / "own-scale.json"
    own.write_text(json.dumps(MODEL | {"init_logit_bias": -10, "init_logit_scale": 1.5}))
    assert float(find_recipe(str(own)).build().logit_scale) == 1.5
