"""Finding a signal by its name."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from functools import partial
from importlib.metadata import entry_points

from selffilter.errors import UserError
from selffilter.scoring.signals.cosine import Cosine
from selffilter.scoring.signals.flipped_cosine import FlippedCosine
from selffilter.scoring.signals.learnability import Learnability
from selffilter.scoring.signals.neg_clip_loss import NegClipLoss
from selffilter.scoring.signals.norm_sim import NormSim
from selffilter.scoring.signals.pair_probability import PairProbability
from selffilter.scoring.signals.signal import NEEDS, Signal
from selffilter.scoring.signals.variance_alignment import VarianceAlignment

OURS: dict[str, Callable[[], Signal]] = {
    "cosine": Cosine,
    "neg_clip_loss": NegClipLoss,
    "pair_probability": PairProbability,
    "norm_sim_2": partial(NormSim, 2),
    "norm_sim_inf": partial(NormSim, math.inf),
    "variance_alignment_image": partial(VarianceAlignment, "image"),
    "variance_alignment_text": partial(VarianceAlignment, "text"),
    "variance_alignment_cross": partial(VarianceAlignment, "cross"),
    "variance_alignment_image_traindata": partial(VarianceAlignment, "image", traindata=True),
    "variance_alignment_text_traindata": partial(VarianceAlignment, "text", traindata=True),
    "variance_alignment_cross_traindata": partial(VarianceAlignment, "cross", traindata=True),
    "learnability": Learnability,
    "flipped_cosine": FlippedCosine,
}
"""The signals of this package, by the name that the config and the score table's column have."""

GROUP = "selffilter.signals"
"""The entry points of other packages' signals: name → a class that is made without arguments."""


def find_signal(name: str, asked_as: str = "score.signal") -> Signal:
    """Return the signal of that name.

    Args:
        name: One of `OURS`, or an entry point's.
        asked_as: What the user calls it, for errors.

    Raises:
        UserError: If there is none, with the nearest name; or if another package's asks for what
            there is not.
    """
    if name in OURS:
        return OURS[name]()
    others = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name in others:
        found: Signal = others[name].load()()
        needs = getattr(found, "needs", None)
        if not isinstance(needs, frozenset) or needs - NEEDS:
            raise UserError(
                f"{asked_as}={name!r} ({others[name].value}) must have an attribute `needs`, a "
                f"frozenset of some of {', '.join(sorted(NEEDS))}; it has {needs!r}."
            )
        return found
    known = [*OURS, *others, "given"]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise UserError(f"{asked_as}={name!r} is not one of {', '.join(known)}.{hint}")
