"""Train to the end of a round, on the whole base or on what the round before selected.

Leaves ``train/last.ckpt`` (to go on from) and ``train/model.safetensors`` (the weights that score).
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from selffilter.clip.compiling import compile_towers
from selffilter.clip.flops import training_flops
from selffilter.clip.model import save_weights
from selffilter.clip.starting import build_to_train
from selffilter.errors import UserError
from selffilter.planning import RoundSteps, optimizer_since, schedule_since, weights_since
from selffilter.pool import uids
from selffilter.randomness import key_from
from selffilter.stages.context import RunContext, Summary
from selffilter.store import iterate_jsonl, write_json
from selffilter.tracking.trackers import last_value
from selffilter.training.feature_caching import refuse_batch_norm
from selffilter.training.loss_scale import LossScale
from selffilter.training.measure import peak_flops
from selffilter.training.module import ClipTraining, adamw, fresh_ema
from selffilter.training.profiling import Profiling
from selffilter.training.schedule import learning_rate
from selffilter.training.state import TrainState, damage, newest_whole, saved_by_step
from selffilter.training.trainer import NotFinite, Segment, StepReport, fit, move

_ROWS_NAMED = 16


def train(context: RunContext, steps: RoundSteps) -> Summary:
    """Train from where the round stands to its end.

    Returns:
        Samples seen, the last loss, and the first classification set's zero-shot numbers.
    """
    c = context.config
    begin = _state_to_begin_with(context, steps)
    first_step = begin.step if begin else steps.begin
    context.begin(steps, "train", first_step)
    model = _build(context, steps, begin)
    if first_step == 0 and context.team.is_main:
        untrained = context.zero_shot(model.to(context.team.device).eval(), steps, 0, "train")
        context.screen.round_row({"samples_seen": 0} | untrained)
    # Not in a collective: evaluating may take longer than NCCL's watchdog waits.
    context.team.wait_for_all()
    end = begin
    if end is None or end.step < steps.end:
        end = _fit(context, steps, model.train(), begin, first_step)
        # Trainer and module refer to each other; scoring wants their memory now.
        gc.collect()
    if not context.team.is_main:
        return {}

    last = context.store.state(steps.round)
    end.save(last)
    for earlier in saved_by_step(last):
        earlier.unlink()
    save_weights(
        context.store.model(steps.round), end.ema if c.score.weights == "ema" else end.model
    )
    context.begin(steps, "evaluate", steps.end)
    zero_shot = context.zero_shot(context.scorer(steps.round), steps, steps.end, "evaluate")
    metrics = context.store.round(steps.round) / "metrics.jsonl"
    seen = steps.end * c.train.global_batch_size
    begun = steps.begin * c.train.global_batch_size
    summary: Summary = {"samples_seen": seen, "loss": last_value(metrics, "train", "loss")}
    records = [r for r in iterate_jsonl(metrics) if r["kind"] == "train"]
    return summary | measured(records, begun) | {"skipped_steps": end.skipped} | zero_shot


def measured(records: Iterable[Mapping[str, Any]], begun: int) -> Summary:
    """Return what a round's ``train`` records measured, over the round.

    Args:
        records: In their order.
        begun: Samples seen when the round began.

    Returns:
        ``samples_per_s`` (samples over time), ``step_s``, ``data_wait``, ``tflops`` and ``mfu``
        (means over time; None where a record has none), ``peak_memory_mb`` (the largest).
    """
    times, found, before = [], list(records), begun
    for record in found:
        times.append((record["samples_seen"] - before) / record["samples_per_s"])
        before = record["samples_seen"]
    total = sum(times)
    if not total:
        return {}

    def mean(key: str) -> float | None:
        if any(record[key] is None for record in found):
            return None
        return float(sum(r[key] * t for r, t in zip(found, times, strict=True)) / total)

    return {
        "samples_per_s": (before - begun) / total,
        "step_s": total / sum(t / r["step_s"] for r, t in zip(found, times, strict=True)),
        "data_wait": mean("data_wait"),
        "tflops": mean("tflops"),
        "mfu": mean("mfu"),
        "peak_memory_mb": max(record["peak_memory_mb"] for record in found),
    }


def _fit(
    context: RunContext,
    steps: RoundSteps,
    model: nn.Module,
    begin: TrainState | None,
    first_step: int,
) -> TrainState:
    c, batch = context.config, context.config.train.global_batch_size
    module = ClipTraining(
        model,
        functools.partial(_optimizer, context, begin),
        functools.partial(_learning_rate, context, steps),
        seed=c.seed,
        first_step=first_step,
        ema=move(begin.ema if begin else fresh_ema(model), context.team.device),
        ema_decay=c.train.ema_decay,
        ema_begin=context.schedule[weights_since(c, steps.round)].begin,
        skipped=begin.skipped if begin else 0,
        loss_scale=_loss_scale(context, begin),
        channels_last=c.hardware.channels_last,
        clip_grad_norm=c.train.clip_grad_norm,
        micro_batch_size=c.train.micro_batch_size,
    )
    done = first_step - steps.begin
    flops = training_flops(context.recipe, model)
    peak = peak_flops(context.team.device, c.hardware.precision)
    minutes = c.train.checkpoint_every_minutes
    title = f"round {steps.round}  train"
    with (
        context.screen.bar(title, steps.steps * batch, done * batch) as bar,
        context.fetching_ahead() as ahead,
    ):

        def report(now: StepReport) -> None:
            nonlocal done
            note = f"loss {now.loss:.3f}  data wait {now.data_wait:.0%}"
            numbers = {"loss": now.loss, "data_wait": now.data_wait}
            bar.advance((now.step - steps.begin - done) * batch, note, numbers)
            done = now.step - steps.begin
            values = {k: v for k, v in dataclasses.asdict(now).items() if k != "step"}
            rate = flops * now.samples_per_s / context.team.size
            values["tflops"] = rate / 1e12
            values["mfu"] = None if peak is None else rate / peak
            context.log("train", steps.round, "train", now.step, values)

        try:
            return fit(
                module,
                context.dataset(train=True),
                Segment(context.plan(steps), steps.begin, steps.end),
                context.team,
                precision=c.hardware.precision,
                workers=c.hardware.workers,
                deterministic=c.hardware.deterministic,
                report=report,
                report_every=c.train.log_every_steps,
                checkpoint=lambda state: state.save(
                    context.store.state(steps.round), keep=c.train.keep_checkpoints
                ),
                checkpoint_every=c.train.checkpoint_every_steps,
                checkpoint_every_s=math.inf if minutes is None else 60 * minutes,
                max_skipped=c.train.max_skipped_steps,
                should_stop=lambda: context.stop.requested,
                ahead=ahead,
                static_graph=c.hardware.ddp_static_graph,
                callbacks=_profiling(context, steps),
            )
        except NotFinite as found:
            raise _too_many_skipped(context, steps, found) from found


def _too_many_skipped(context: RunContext, steps: RoundSteps, found: NotFinite) -> UserError:
    """Leave the rows of the last batch in ``train/not_finite.json``; return what to say."""
    path = context.store.round(steps.round) / "train" / "not_finite.json"
    rows = found.rows_B.tolist()
    if context.team.is_main:
        hexed = uids.to_hex(context.pool.uids_of(found.rows_B))
        write_json(path, {"step": found.step, "rows": rows, "uids": hexed})
    return UserError(
        f"{found.skipped} steps since the weights were fresh had a loss or gradient that is not "
        f"finite, more than train.max_skipped_steps={context.config.train.max_skipped_steps}; the "
        f"last one is step {found.step} with the rows {', '.join(map(str, rows[:_ROWS_NAMED]))}"
        f"{', …' if len(rows) > _ROWS_NAMED else ''} (all of them, with uids: {path}). Look at "
        "these, or begin a new run (or a fork of an earlier round) with a lower "
        "train.learning_rate or with train.clip_grad_norm."
    )


def _state_to_begin_with(context: RunContext, steps: RoundSteps) -> TrainState | None:
    """Go on inside the round; else from the round before; else from nothing."""
    own = context.store.state(steps.round)
    name = context.team.decide(lambda: _where_it_stands(context, steps))
    if name is not None:
        own = own.with_name(name)
        state = TrainState.load(own)
        if not steps.begin < state.step <= steps.end:
            raise UserError(f"{own} is of step {state.step}, not of round {steps.round}.")
        return state
    if weights_since(context.config, steps.round) == steps.round:
        return None
    before = context.store.state(steps.round - 1)
    context.team.decide(lambda: _refuse_damaged(context, steps.round - 1))
    state = TrainState.load(before)
    if state.step != steps.begin:
        raise UserError(f"{before} is of step {state.step}, not {steps.begin}.")
    if optimizer_since(context.config, steps.round) == steps.round:
        state.optimizer = {}
    return state


def _where_it_stands(context: RunContext, steps: RoundSteps) -> str | None:
    """Name the state to go on from inside the round; say so if it is not the one that it left."""
    lost: list[str] = []
    name = newest_whole(context.store.state(steps.round), lost.append)
    for each in lost:
        context.screen.say(each)
    if lost:
        where = name or f"the beginning of round {steps.round} (step {steps.begin})"
        context.screen.say(f"going on from {where}: what was trained since is trained again")
    return name


def _refuse_damaged(context: RunContext, round_: int) -> None:
    state = context.store.state(round_)
    why = damage(state) if state.exists() else "it is gone"
    if why is not None:
        raise UserError(
            f"{state}, which round {round_ + 1} goes on from, is damaged ({why}). Put a copy of it "
            f"back; or remove {context.store.round(round_)}, and the same command trains, scores "
            "and selects in that round again."
        )


def _build(context: RunContext, steps: RoundSteps, begin: TrainState | None) -> nn.Module:
    since = weights_since(context.config, steps.round)
    torch.manual_seed(key_from(context.config.seed, "weights", since))
    model = build_to_train(context.recipe, context.config.model, fresh=begin is None)
    if context.config.train.micro_batch_size is not None:
        refuse_batch_norm(model)
    if begin is not None:
        model.load_state_dict(begin.model)
    if context.config.hardware.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if context.config.hardware.compile:
        compile_towers(model)
    return model


def _optimizer(
    context: RunContext, begin: TrainState | None, model: nn.Module
) -> torch.optim.Optimizer:
    t = context.config.train
    optimizer = adamw(model, betas=(t.beta1, t.beta2), eps=t.eps, weight_decay=t.weight_decay)
    if begin is not None and begin.optimizer:
        optimizer.load_state_dict(begin.optimizer)
        for parameter, moments in optimizer.state.items():
            for name, value in moments.items():
                # The fused kernels want weights and moments in one order in memory, and
                # hardware.channels_last may have changed.
                if value.shape == parameter.shape and value.ndim:
                    moments[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
    return optimizer


def _loss_scale(context: RunContext, begin: TrainState | None) -> LossScale | None:
    if context.config.hardware.precision != "16-mixed":
        return None
    known = begin.loss_scale if begin else None
    return LossScale(context.team.device, *(known or ()))


def _profiling(context: RunContext, steps: RoundSteps) -> list[Profiling]:
    window = context.config.train.profile
    if not window or not context.team.is_main:
        return []
    return [Profiling(range(*window), context.store.stage(steps.round, "train"))]


def _learning_rate(context: RunContext, steps: RoundSteps, step: int) -> float:
    # The horizon: the rounds that go on with one schedule.
    since = schedule_since(context.config, steps.round)
    alike = [s for s in context.schedule if schedule_since(context.config, s.round) == since]
    begin, end = alike[0].begin, alike[-1].end
    t = context.config.train
    return learning_rate(
        step - begin,
        end - begin,
        peak=t.learning_rate,
        warmup_steps=t.warmup_steps,
        schedule=t.schedule,
        decay_fraction=t.decay_fraction,
    )
