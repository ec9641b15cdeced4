"""What training can be asked for besides the recipe, in whole runs on a small pool."""

from __future__ import annotations

import functools
import gzip
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_end_to_end import BATCH, MODEL, config_of, go, home

from selffilter.clip.checkpoint import fingerprint
from selffilter.clip.flops import training_flops
from selffilter.clip.model import find_recipe
from selffilter.config import Config
from selffilter.errors import UserError
from selffilter.rundir.forking import refuse_misfit
from selffilter.stages import train as stage
from selffilter.stages.train import measured
from selffilter.store import RunStore, iterate_jsonl, read_json
from selffilter.tables import read_table
from selffilter.training.state import TrainState

__all__ = ["home"]
STEPS = 5


def one_round(home: Path, runs: Path, name: str, *more: str, steps: int = STEPS) -> Config:
    return config_of(
        home, runs, name, "rounds.count=1", "rounds.final_selection=false",
        f"rounds.samples_seen={steps * BATCH}", *more,
    )  # fmt: skip


def records(store: RunStore) -> list[dict]:
    found = iterate_jsonl(store.root / "rounds" / "000" / "metrics.jsonl")
    return [r for r in found if r["kind"] == "train"]


@pytest.fixture(scope="module")
def weights(home: Path) -> Path:
    """Weights of the model of the tests that no seed of these runs draws."""
    torch.manual_seed(123)
    path = home / "begin.safetensors"
    save_file(find_recipe(str(home / "test-vit.json")).build().state_dict(), path)
    return path


# --- measured while it runs -----------------------------------------------------------------------


def test_a_record_says_how_fast_training_is_and_how_much_memory_it_needs(
    home: Path, tmp_path: Path
) -> None:
    store = go(one_round(home, tmp_path, "measured", "train.log_every_steps=2"))
    found = records(store)
    assert [r["samples_seen"] for r in found] == [2 * BATCH, 4 * BATCH, 5 * BATCH]
    recipe = find_recipe(str(home / "test-vit.json"))
    flops = training_flops(recipe, recipe.build())
    for record in found:
        assert record["step_s"] == pytest.approx(BATCH / record["samples_per_s"])
        assert record["tflops"] == pytest.approx(flops * record["samples_per_s"] / 1e12)
        assert record["mfu"] is None  # nobody knows the peak of this CPU
        assert record["peak_memory_mb"] > 50
        assert record["skipped_steps"] == 0
    summary = store.summary(0, "train")
    seconds = [r["step_s"] * steps for r, steps in zip(found, (2, 2, 1), strict=True)]
    assert summary["samples_per_s"] == pytest.approx(STEPS * BATCH / sum(seconds))
    assert summary["step_s"] == pytest.approx(sum(seconds) / STEPS)
    waits = [r["data_wait"] for r in found]
    assert summary["data_wait"] == pytest.approx(np.average(waits, weights=seconds))
    assert summary["peak_memory_mb"] == max(r["peak_memory_mb"] for r in found)
    assert summary["mfu"] is None and summary["skipped_steps"] == 0


def test_the_means_of_a_round_are_over_its_time() -> None:
    def record(seen: int, rate: float, wait: float) -> dict:
        return {
            "samples_seen": seen, "samples_per_s": rate, "step_s": 10 / rate, "data_wait": wait,
            "tflops": rate, "mfu": rate / 1000, "peak_memory_mb": rate,
        }  # fmt: skip

    found = measured([record(200, 100.0, 0.0), record(300, 10.0, 0.5)], begun=100)
    # 100 samples in 1 s, then 100 in 10 s; ten to a step.
    assert found["samples_per_s"] == found["tflops"] == pytest.approx(200 / 11)
    assert found["mfu"] == pytest.approx(0.2 / 11)
    assert found["step_s"] == pytest.approx(11 / 20)
    assert found["data_wait"] == pytest.approx(5 / 11)
    assert found["peak_memory_mb"] == 100
    assert measured([], begun=0) == {}


# --- steps that are not finite --------------------------------------------------------------------


def test_too_many_steps_that_are_not_finite_end_the_run_and_name_the_rows(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(self: stage.ClipTraining, batch: dict, ours=stage.ClipTraining._loss_and_gradients):
        if self.step in (1, 3):
            batch["image"] = batch["image"] * math.inf
        return ours(self, batch)

    monkeypatch.setattr(stage.ClipTraining, "_loss_and_gradients", spoilt)
    config = one_round(home, tmp_path, "spoilt", "train.max_skipped_steps=1")
    with pytest.raises(UserError, match=r"^2 steps .*max_skipped_steps=1.*step 3 with the rows \d"):
        go(config)
    folder = config.run_dir / "rounds" / "000" / "train"
    left = read_json(folder / "not_finite.json")
    assert left["step"] == 3 and len(left["rows"]) == len(left["uids"]) == BATCH
    assert all(len(uid) == 32 for uid in left["uids"])
    # Gone on with, it ends there again; with a higher bound it goes on from there.
    with pytest.raises(UserError, match="step 3 with the rows"):
        go(config)
    store = go(one_round(home, tmp_path, "spoilt", "train.max_skipped_steps=2"))
    assert store.summary(0, "train")["skipped_steps"] == 2
    assert [r["skipped_steps"] for r in records(store)] == [0, 1, 0, 1, 0]
    assert [r["loss"] is None for r in records(store)] == [False, True, False, True, False]


# --- a model to begin with ------------------------------------------------------------------------


def test_every_round_with_fresh_weights_begins_with_the_same_pretrained_ones(
    home: Path, weights: Path, tmp_path: Path
) -> None:
    more = ("train.learning_rate=0.0", "rounds.fresh_weights_at=[1]", "rounds.count=2")
    words = (*more, f"model.pretrained={weights}")
    config = config_of(home, tmp_path, "pretrained", *words)
    store = go(config)
    begun = find_recipe(str(home / "test-vit.json")).build()
    begun.load_state_dict(stage_weights := torch_weights(weights))
    for round_ in (0, 1):
        state = TrainState.load(store.state(round_))
        assert all(torch.equal(state.model[name], v) for name, v in stage_weights.items())
    record = read_json(store.root / "environment.json")
    assert record["pretrained_fingerprint"] == fingerprint(begun.state_dict())
    go(config)


def torch_weights(path: Path) -> dict[str, torch.Tensor]:
    from selffilter.clip.checkpoint import read_weights

    return read_weights(path)


def test_weights_that_changed_under_a_run_are_refused(
    home: Path, weights: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.safetensors"
    own.write_bytes(weights.read_bytes())
    config = one_round(home, tmp_path, "changed", f"model.pretrained={own}")
    go(config)
    changed = torch_weights(weights)
    changed["logit_scale"] = changed["logit_scale"] + 1
    save_file(changed, own)
    with pytest.raises(UserError, match=r"model\.pretrained=.*has changed"):
        go(config)


def test_weights_that_do_not_fit_are_refused_before_anything_is_made(
    home: Path, weights: Path, tmp_path: Path
) -> None:
    (home / "wider.json").write_text(json.dumps(MODEL | {"embed_dim": 48}))
    config = one_round(
        home, tmp_path, "unfit", f"model.pretrained={weights}", f"model.name={home}/wider.json"
    )
    with pytest.raises(UserError, match="not of the architecture wider"):
        go(config)
    assert not (config.run_dir / "config.yaml").exists()


def test_what_is_locked_keeps_its_weights_and_their_average_to_the_bit(
    home: Path, weights: Path, tmp_path: Path
) -> None:
    begun = torch_weights(weights)
    store = go(
        one_round(
            home,
            tmp_path,
            "locked",
            f"model.pretrained={weights}",
            "model.unlocked_image_groups=1",
            "model.unlocked_text_groups=0",
            "train.learning_rate=1e-2",
        )
    )
    state = TrainState.load(store.state(0))
    moved = {name for name, value in state.model.items() if not torch.equal(value, begun[name])}
    assert moved == {"visual.proj", "logit_scale"}
    averaged = {name for name, value in state.ema.items() if not torch.equal(value, begun[name])}
    assert averaged == moved
    assert len(state.optimizer["state"]) == 2


# --- how it is computed ---------------------------------------------------------------------------


def test_checkpointing_and_channels_last_change_neither_rows_nor_loss_and_may_come_and_go(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = ("hardware.channels_last=true", "model.gradient_checkpointing=true")
    plain = [r["loss"] for r in records(go(one_round(home, tmp_path, "plain")))]
    other = [r["loss"] for r in records(go(one_round(home, tmp_path, "other", *both)))]
    np.testing.assert_allclose(other, plain, rtol=1e-4)

    class Killed(BaseException):
        pass

    def die(context, kind, round_, stage_, step, values, log=stage.RunContext.log):
        log(context, kind, round_, stage_, step, values)
        if kind == "train" and step == 3:
            raise Killed

    for name, first, then in (("on", (), both), ("off", both, ())):
        with monkeypatch.context() as patch:
            patch.setattr(stage.RunContext, "log", die)
            with pytest.raises(Killed):
                go(one_round(home, tmp_path, name, *first))
        went_on = [r["loss"] for r in records(go(one_round(home, tmp_path, name, *then)))]
        np.testing.assert_allclose(went_on, plain, rtol=1e-4)


def test_images_and_convolutions_are_channels_last_when_asked(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def layouts(*more: str) -> set[tuple[bool, bool]]:
        seen = set()

        def look(
            self: stage.ClipTraining, batch: dict, ours=stage.ClipTraining._loss_and_gradients
        ):
            conv, last = self.model.visual.conv1, torch.channels_last
            hook = conv.register_forward_pre_hook(
                lambda of, args: seen.add(
                    tuple(x.is_contiguous(memory_format=last) for x in (of.weight, args[0]))
                )
            )
            found = ours(self, batch)
            hook.remove()
            return found

        with monkeypatch.context() as patch:
            patch.setattr(stage.ClipTraining, "_loss_and_gradients", look)
            go(one_round(home, tmp_path, f"layout{len(more)}", *more, steps=2))
        return seen

    assert layouts() == {(False, False)}
    assert layouts("hardware.channels_last=true") == {(True, True)}


def test_checkpoints_by_minutes(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def saved(name: str, minutes: str) -> list[int]:
        steps = []

        def save(self: TrainState, *args, ours=TrainState.save, **options) -> None:
            steps.append(self.step)
            ours(self, *args, **options)

        words = ("train.checkpoint_every_steps=100", f"train.checkpoint_every_minutes={minutes}")
        with monkeypatch.context() as patch:
            patch.setattr(TrainState, "save", save)
            go(one_round(home, tmp_path, name, *words, steps=3))
        return steps

    assert saved("never", "null") == [3]
    assert saved("each", "0") == [1, 2, 3, 3]
    assert saved("hourly", "60") == [3]


@pytest.mark.parametrize(
    "word", ["model.pretrained=other.pt", "model.unlocked_image_groups=0",
             "model.unlocked_text_groups=2"],
)  # fmt: skip
def test_a_fork_keeps_what_its_optimizer_knows(word: str, home: Path, tmp_path: Path) -> None:
    old, new = (
        one_round(home, tmp_path, name, *more) for name, more in (("a", ()), ("b", (word,)))
    )
    with pytest.raises(UserError, match=rf"a fork keeps {word.split('=')[0]}=None"):
        refuse_misfit(old, new, 0)


def test_checkpoints_that_are_kept_are_the_last_ones_of_the_round(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(context, kind, round_, stage_, step, values, log=stage.RunContext.log):
        log(context, kind, round_, stage_, step, values)
        if kind == "train" and step == 5:
            raise Killed

    words = ("train.checkpoint_every_steps=1", "train.keep_checkpoints=2")
    config = one_round(home, tmp_path, "kept", *words, steps=6)
    folder = config.run_dir / "rounds" / "000" / "train"
    with monkeypatch.context() as patch:
        patch.setattr(stage.RunContext, "log", die)
        with pytest.raises(Killed):
            go(config)
    # The last is there under two names, and its bytes once.
    kept = sorted(p.name for p in folder.glob("*.ckpt"))
    assert kept == ["last.ckpt", "step-0000000003.ckpt", "step-0000000004.ckpt"]
    assert (folder / "last.ckpt").samefile(folder / kept[-1])
    assert TrainState.load(folder / kept[-2]).step == 3
    # Without the last two it goes on from the one before, and comes to the same end.
    (folder / "last.ckpt").unlink()
    (folder / kept[-1]).unlink()
    store = go(config)
    assert [p.name for p in folder.glob("*.ckpt")] == ["last.ckpt"]
    whole = go(one_round(home, tmp_path, "whole", steps=6))
    a, b = (TrainState.load(s.state(0)) for s in (store, whole))
    assert all(torch.equal(a.model[name], value) for name, value in b.model.items())


def test_optimizer_and_schedule_may_begin_again_while_the_weights_go_on(
    home: Path, tmp_path: Path
) -> None:
    def run(name: str, *more: str) -> RunStore:
        return go(
            config_of(
                home, tmp_path, name, "rounds.count=3", "rounds.fresh_weights_at=[]",
                "rounds.final_selection=false", f"rounds.samples_seen={9 * BATCH}",
                "rounds.bootstrap_fraction=0.34", "train.schedule=cosine", "train.warmup_steps=1",
                "train.log_every_steps=1", *more,
            )
        )  # fmt: skip

    def rates(store: RunStore) -> list[float]:
        found = [iterate_jsonl(p) for p in sorted(store.root.glob("rounds/*/metrics.jsonl"))]
        return [r["learning_rate"] for part in found for r in part if r["kind"] == "train"]

    def age(store: RunStore, round_: int) -> float:
        moments = TrainState.load(store.state(round_)).optimizer["state"]
        return float(next(iter(moments.values()))["step"])

    on = run("on")
    scheduled = run("scheduled", "rounds.fresh_schedule_at=[1,2]")
    optimized = run("optimized", "rounds.fresh_optimizer_at=[1]")
    assert len(rates(on)) == 9
    assert rates(optimized) == rates(on)
    once = rates(scheduled)[:3]
    assert rates(scheduled) == once * 3 and once[-1] < once[0]
    assert [age(on, r) for r in range(3)] == [age(scheduled, r) for r in range(3)] == [3, 6, 9]
    assert [age(optimized, r) for r in range(3)] == [3, 3, 6]
    first = [TrainState.load(s.state(0)).model["visual.proj"] for s in (on, optimized)]
    later = [TrainState.load(s.state(1)).model["visual.proj"] for s in (on, optimized)]
    assert torch.equal(*first) and not torch.equal(*later)


def test_a_trace_of_some_steps_changes_nothing_else(home: Path, tmp_path: Path) -> None:
    plain = go(one_round(home, tmp_path, "plain"))
    traced = go(one_round(home, tmp_path, "traced", "train.profile=[1,3]"))
    folder = traced.stage(0, "train")
    with gzip.open(folder / "trace.json.gz") as file:
        events = [event.get("name", "") for event in json.load(file)["traceEvents"]]
    assert sum("optimizer_step" in e or "Optimizer.step#AdamW.step" in e for e in events) >= 2
    assert any("aten::" in e for e in events)
    assert "Self CPU" in (folder / "trace.txt").read_text()
    assert not (plain.stage(0, "train") / "trace.txt").exists()
    a, b = (TrainState.load(s.state(0)).model for s in (plain, traced))
    assert all(torch.equal(a[name], value) for name, value in b.items())


def test_a_run_in_fp16_learns_and_scores_as_in_fp32(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # From one at which nothing overflows, so that both take the same steps.
    monkeypatch.setattr(stage, "LossScale", functools.partial(stage.LossScale, scale=1024.0))
    whole = ("rounds.count=1", f"rounds.samples_seen={STEPS * BATCH}", "train.log_every_steps=1")
    exact = go(config_of(home, tmp_path, "exact", *whole))
    half = go(config_of(home, tmp_path, "half", *whole, "hardware.precision=16-mixed"))
    losses = [[r["loss"] for r in records(store)] for store in (exact, half)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=5e-3)
    assert [r["loss_scale"] for r in records(half)] == [1024.0] * STEPS
    assert [r["loss_scale"] for r in records(exact)] == [None] * STEPS
    scores = [
        np.concatenate([
            read_table(path, ["neg_clip_loss"])["neg_clip_loss"].to_numpy()
            for path in sorted(store.stage(0, "score").glob("*.parquet"))
        ])
        for store in (exact, half)
    ]  # fmt: skip
    assert not np.array_equal(*scores)
    np.testing.assert_allclose(scores[1], scores[0], atol=0.01)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile wants a compiler")
@pytest.mark.slow
def test_a_compiled_model_trains_and_scores_the_same_up_to_rounding(
    home: Path, tmp_path: Path
) -> None:
    whole = ("rounds.count=1", "rounds.samples_seen=64", "train.log_every_steps=1")
    words = (*whole, "model.patch_dropout=0.25", "train.micro_batch_size=16")
    plain = go(config_of(home, tmp_path, "plain", *words))
    compiled = go(config_of(home, tmp_path, "compiled", *words, "hardware.compile=true"))
    losses = [[r["loss"] for r in records(store)] for store in (plain, compiled)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    a, b = (TrainState.load(store.state(0)).model for store in (plain, compiled))
    assert a.keys() == b.keys()
    assert any(not torch.equal(a[name], value) for name, value in b.items())
    for name, value in b.items():
        torch.testing.assert_close(a[name], value, rtol=1e-3, atol=2e-4)
