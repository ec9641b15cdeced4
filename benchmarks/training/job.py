"""What either trainer is asked to do, and what it leaves: the same for both."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass, field

BETAS, EPS, WEIGHT_DECAY = (0.9, 0.98), 1e-6, 0.2
SEED = 0


@dataclass(frozen=True)
class Job:
    """A stretch of training in fp32 on one thread of the CPU, with AdamW and a cosine.

    Attributes:
        model: A name of open_clip's, or the path of a JSON model config.
        weights: A safetensors file to begin with; None: fresh ones.
        shards: Folder of tars.
        samples: How many samples those hold.
        steps: Optimizer steps; also the horizon of the schedule.
        batch_size: Rows a step.
        workers: Data loader processes.
        learning_rate: At the peak.
        warmup_steps: Linear.
        augment: The random crop of training; else the transform of evaluation.
        in_order: open_clip's side reads the samples as they stand in the tars, unshuffled.
        fused: open_clip's side takes torch's fused AdamW, as ours does, and not its default.
        averages: Our side keeps the moving average of the weights. open_clip has none.
    """

    model: str
    weights: str | None
    shards: str
    samples: int
    steps: int
    batch_size: int
    workers: int
    learning_rate: float = 1e-3
    warmup_steps: int = 10
    augment: bool = True
    in_order: bool = False
    fused: bool = False
    averages: bool = True


@dataclass
class Record:
    """What was seen of it.

    Attributes:
        losses: Of each step, before it was taken.
        wall_s: When each step began, its batch at hand.
        cpu_s: The process's CPU time then, of all its threads, without data loader processes.
        resident_mb: Before model and data were made.
        peak_mb: The most that the process had resident (its data loader processes not counted).
        worker_mb: The most that a data loader process had resident, with what it shares with its
            parent; 0 if there was none.
    """

    losses: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    resident_mb: float = 0.0
    peak_mb: float = 0.0
    worker_mb: float = 0.0

    def begin(self) -> None:
        """Note the memory before anything is made."""
        self.resident_mb = _peak_mb()

    def tick(self) -> None:
        """Note that a step begins."""
        self.wall_s.append(time.perf_counter())
        self.cpu_s.append(time.process_time())

    def end(self, job: Job) -> None:
        """Note the peak, the last step over."""
        if len(self.wall_s) != job.steps:
            raise RuntimeError(f"{len(self.wall_s)} steps were seen instead of {job.steps}")
        self.peak_mb = _peak_mb()

    def leave(self) -> None:
        """Note what data loader processes needed, all of them ended."""
        self.worker_mb = _peak_mb(resource.RUSAGE_CHILDREN)


def _peak_mb(whose: int = resource.RUSAGE_SELF) -> float:
    # In KiB on Linux.
    return resource.getrusage(whose).ru_maxrss * 1024 / 1e6
