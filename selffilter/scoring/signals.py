"""What a signal is, and where the run finds one by its name.

A signal turns the unit-norm features of some rows into one float32 a row; higher is better. To
add one: a small file with a class like those beside it, and a line in `find_signal`; or, from
another package, an entry point in the group ``selffilter.signals``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Protocol

from torch import Tensor

from selffilter.errors import UserError
from selffilter.scoring.cosine import Cosine
from selffilter.scoring.facts import Facts
from selffilter.scoring.neg_clip_loss import NegClipLoss
from selffilter.scoring.pair_probability import PairProbability


class Signal(Protocol):
    """One number a row.

    Attributes:
        needs_bank: Whether `Facts.bank` must be there.
    """

    needs_bank: bool

    def __call__(
        self,
        image_features_BD: Tensor,
        text_features_BD: Tensor,
        row_B: Tensor,
        facts: Facts,
    ) -> Tensor:
        """Score rows: unit-norm float32 features in, (B,) float32 out."""


_OURS: dict[str, Callable[[], Signal]] = {
    "cosine": Cosine,
    "neg_clip_loss": NegClipLoss,
    "pair_probability": PairProbability,
}


def find_signal(name: str) -> Signal:
    """Return the signal of that name.

    Raises:
        UserError: If there is none, with the nearest name.
    """
    if name in _OURS:
        return _OURS[name]()
    for entry in entry_points(group="selffilter.signals"):
        if entry.name == name:
            found: Signal = entry.load()()
            return found
    close = difflib.get_close_matches(name, [*_OURS, "given"], n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise UserError(f"score.signal={name!r} is not one of {', '.join(_OURS)}, given.{hint}")
