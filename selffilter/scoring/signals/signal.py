"""What a signal is.

A signal turns the unit-norm features of some pairs into one float32 a pair; higher is better. To
add one: a small file with a class like those beside it, and a line in `find.OURS`; or, from
another package, an entry point in the group ``selffilter.signals``.
"""

from __future__ import annotations

from typing import Literal, Protocol, get_args

from torch import Tensor

from selffilter.scoring.signals.facts import Facts, Pairs

Need = Literal["bank", "moments", "target", "target_captions", "flipped", "reference"]
"""What a signal may ask for besides the features of the pairs: see `Pairs` and `Facts`.

``target_captions``: that the target set's moments are of captions too.
"""

NEEDS: frozenset[Need] = frozenset(get_args(Need))


class Signal(Protocol):
    """One number a pair.

    Attributes:
        needs: What must be there in the pairs and facts that the signal is called with.
    """

    needs: frozenset[Need]

    def __call__(self, pairs: Pairs, facts: Facts) -> Tensor:
        """Score pairs, (B,) float32. Of no consequence to a pair: which others it comes with."""
