"""What training must remember to go on: weights, their average, optimizer, step.

One file serves going on inside a round and going over into the next. It is a plain dict of
tensors and numbers, read weights-only. Position, order and augmentation need no state: they are
functions of the step.
"""

from __future__ import annotations

import errno
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selffilter.errors import UserError
from selffilter.store import link, write_atomically

_NO_ZIP = (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, struct.error, zlib.error)


@dataclass
class TrainState:
    """The state after `step` optimizer steps.

    Attributes:
        step: Optimizer steps since the run's first.
        model: Weights.
        ema: Their moving average.
        optimizer: The optimizer's state dict.
        skipped: How many of the steps since the weights were fresh were skipped.
        loss_scale: Of fp16: `LossScale.state`.
    """

    step: int
    model: dict[str, Tensor]
    ema: dict[str, Tensor]
    optimizer: dict[str, Any]
    skipped: int = 0
    loss_scale: tuple[float, int] | None = None

    def save(self, path: Path, keep: int = 1) -> None:
        """Write the state atomically.

        Args:
            path: The file.
            keep: How many states are to be left; with more than one, each stands there by its step
                too (see `saved_by_step`), and the oldest ones go.
        """
        write_atomically(path, lambda file: torch.save(asdict(self), file))
        if keep > 1:
            by_step = path.with_name(f"step-{self.step:010d}.ckpt")
            by_step.unlink(missing_ok=True)
            link(path, by_step)
            for old in saved_by_step(path)[:-keep]:
                old.unlink()

    @classmethod
    def load(cls, path: Path) -> TrainState:
        """Read a state; never runs code from the file.

        Raises:
            UserError: If the file is not a state of selffilter's.
        """
        try:
            values = torch.load(path, map_location="cpu", weights_only=True)
            return cls(**values)
        except Exception as error:  # torch's unpickler: IndexError, KeyError, … as well (2.15)
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise  # a fault of the file system; a cut-off file is "invalid argument" (2.15)
            why = (str(error) or type(error).__name__).splitlines()[0][:120]
            raise UserError(
                f"{path} is no training state of selffilter's, or it is cut off ({why}). Remove it "
                "to begin this round again."
            ) from error


def saved_by_step(path: Path) -> list[Path]:
    """Return the states that `TrainState.save` left beside a state by their steps, oldest first."""
    return sorted(path.parent.glob("step-*.ckpt"))


def damage(path: Path) -> str | None:
    """Return what has happened to the bytes of a state since they were written; None: nothing.

    Reads all of it. torch.load itself sees that a file is cut off, but looks at no checksum (2.15):
    it would go on training with a weight of which a bit has flipped.
    """
    try:
        with zipfile.ZipFile(path) as records:
            bad = records.testzip()
    except _NO_ZIP as error:
        return f"cut off or written over: {error}"
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise  # a fault of the file system; an offset that cannot be is "invalid argument"
        return "cut off or written over"
    return None if bad is None else f"the checksum of {bad} is wrong"


def newest_whole(path: Path, say: Callable[[str], None]) -> str | None:
    """Return the name of the newest state that is whole; None if there is none.

    Args:
        path: The newest one's place; others lie beside it by their steps. Those that are damaged
            are kept as ``NAME.damaged``.
        say: Is told of each of them.
    """
    for found in (path, *reversed(saved_by_step(path))):
        if not found.exists():
            continue
        why = damage(found)
        if why is None:
            return found.name
        aside = found.with_name(f"{found.name}.damaged")
        found.rename(aside)
        say(f"{found} is damaged ({why}): set aside as {aside.name}")
    return None
