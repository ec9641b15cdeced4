"""What training must remember to go on: weights, their average, optimizer, step.

One file serves going on inside a round and going over into the next. It is a plain dict of
tensors and numbers, read weights-only. Position, order and augmentation need no state: they are
functions of the step.
"""

from __future__ import annotations

import errno
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selffilter.errors import UserError
from selffilter.store import write_atomically

_NOT_A_STATE = (RuntimeError, TypeError, EOFError, pickle.UnpicklingError, ValueError)


@dataclass
class TrainState:
    """The state after `step` optimizer steps.

    Attributes:
        step: Optimizer steps since the run's first.
        model: Weights.
        ema: Their moving average.
        optimizer: The optimizer's state dict.
    """

    step: int
    model: dict[str, Tensor]
    ema: dict[str, Tensor]
    optimizer: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write the state atomically."""
        write_atomically(path, lambda file: torch.save(asdict(self), file))

    @classmethod
    def load(cls, path: Path) -> TrainState:
        """Read a state; never runs code from the file.

        Raises:
            UserError: If the file is not a state of selffilter's.
        """
        try:
            values = torch.load(path, map_location="cpu", weights_only=True)
            return cls(**values)
        except (OSError, *_NOT_A_STATE) as error:
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise  # a fault of the file system; a cut-off file is "invalid argument" (2.15)
            why = (str(error) or type(error).__name__).splitlines()[0][:120]
            raise UserError(
                f"{path} is no training state of selffilter's, or it is cut off ({why}). Remove it "
                "to begin this round again."
            ) from error
