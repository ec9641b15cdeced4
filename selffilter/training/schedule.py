"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math


def learning_rate(
    step: int,
    total_steps: int,
    *,
    peak: float,
    warmup_steps: int,
    schedule: str,
    decay_fraction: float = 0.4,
) -> float:
    """Return the learning rate of a step, counted from 0 over the schedule's horizon.

    Args:
        step: 0 … total_steps - 1.
        total_steps: The horizon.
        peak: The rate after warm-up.
        warmup_steps: Linear warm-up, as open_clip's: ``peak · (step + 1) / warmup_steps``.
        schedule: "cosine" to 0 over the rest; "constant"; or "warmup_stable_decay": at the peak,
            then linear to 0 over the last `decay_fraction` of the horizon.
        decay_fraction: Of the horizon.

    Raises:
        ValueError: If there is no such schedule.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if schedule == "constant":
        return peak
    if schedule == "cosine":
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress))) * peak
    if schedule == "warmup_stable_decay":
        decay_steps = decay_fraction * total_steps
        left = total_steps - step
        return peak * (1.0 if decay_steps == 0 else max(0.0, min(1.0, left / decay_steps)))
    raise ValueError(f"no schedule {schedule!r}")
