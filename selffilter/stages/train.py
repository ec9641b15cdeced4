"""Train to the end of a round, on the whole base or on what the round before selected.

Leaves ``train/last.ckpt`` (to go on from) and ``train/model.safetensors`` (the weights that score).
"""

from __future__ import annotations

import dataclasses
import functools
import gc

import torch
from torch import nn

from selffilter.clip.model import save_weights
from selffilter.errors import UserError
from selffilter.planning import RoundSteps, weights_since
from selffilter.randomness import key_from
from selffilter.stages.context import RunContext, Summary
from selffilter.tracking.trackers import last_value
from selffilter.training.feature_caching import refuse_batch_norm
from selffilter.training.module import ClipTraining, adamw, fresh_ema
from selffilter.training.schedule import learning_rate
from selffilter.training.state import TrainState
from selffilter.training.trainer import Segment, StepReport, fit, move


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

    end.save(context.store.state(steps.round))
    save_weights(
        context.store.model(steps.round), end.ema if c.score.weights == "ema" else end.model
    )
    context.begin(steps, "evaluate", steps.end)
    zero_shot = context.zero_shot(context.scorer(steps.round), steps, steps.end, "evaluate")
    metrics = context.store.round(steps.round) / "metrics.jsonl"
    seen = steps.end * c.train.global_batch_size
    return {"samples_seen": seen, "loss": last_value(metrics, "train", "loss")} | zero_shot


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
        ema_begin=_horizon(context, steps)[0],
        clip_grad_norm=c.train.clip_grad_norm,
        micro_batch_size=c.train.micro_batch_size,
    )
    done = first_step - steps.begin
    title = f"round {steps.round}  train"
    with (
        context.screen.bar(title, steps.steps * batch, done * batch) as bar,
        context.fetching_ahead() as ahead,
    ):

        def report(now: StepReport) -> None:
            nonlocal done
            note = f"loss {now.loss:.3f}  data wait {now.data_wait:.0%}"
            bar.advance((now.step - steps.begin - done) * batch, note)
            done = now.step - steps.begin
            values = {k: v for k, v in dataclasses.asdict(now).items() if k != "step"}
            context.log("train", steps.round, "train", now.step, values)

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
            checkpoint=lambda state: state.save(context.store.state(steps.round)),
            checkpoint_every=c.train.checkpoint_every_steps,
            should_stop=lambda: context.stop.requested,
            ahead=ahead,
        )


def _state_to_begin_with(context: RunContext, steps: RoundSteps) -> TrainState | None:
    """Go on inside the round; else from the round before; else from nothing."""
    own = context.store.state(steps.round)
    if context.team.decide(own.exists):
        state = TrainState.load(own)
        if not steps.begin < state.step <= steps.end:
            raise UserError(f"{own} is of step {state.step}, not of round {steps.round}.")
        return state
    if weights_since(context.config, steps.round) == steps.round:
        return None
    before = context.store.state(steps.round - 1)
    state = TrainState.load(before)
    if state.step != steps.begin:
        raise UserError(f"{before} is of step {state.step}, not {steps.begin}.")
    return state


def _build(context: RunContext, steps: RoundSteps, begin: TrainState | None) -> nn.Module:
    since = weights_since(context.config, steps.round)
    torch.manual_seed(key_from(context.config.seed, "weights", since))
    model = context.recipe.build()
    if context.config.train.micro_batch_size is not None:
        refuse_batch_norm(model)
    if begin is not None:
        model.load_state_dict(begin.model)
    return model


def _optimizer(
    context: RunContext, begin: TrainState | None, model: nn.Module
) -> torch.optim.Optimizer:
    t = context.config.train
    optimizer = adamw(model, betas=(t.beta1, t.beta2), eps=t.eps, weight_decay=t.weight_decay)
    if begin is not None:
        optimizer.load_state_dict(begin.optimizer)
    return optimizer


def _horizon(context: RunContext, steps: RoundSteps) -> tuple[int, int]:
    """Return the steps between which these weights and their schedule live."""
    since = weights_since(context.config, steps.round)
    alike = [s for s in context.schedule if weights_since(context.config, s.round) == since]
    return alike[0].begin, alike[-1].end


def _learning_rate(context: RunContext, steps: RoundSteps, step: int) -> float:
    begin, end = _horizon(context, steps)
    t = context.config.train
    return learning_rate(
        step - begin,
        end - begin,
        peak=t.learning_rate,
        warmup_steps=t.warmup_steps,
        schedule=t.schedule,
        decay_fraction=t.decay_fraction,
    )
