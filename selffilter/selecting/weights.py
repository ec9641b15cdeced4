"""How many times a pass meets each row: whole numbers fitted to what a round will consume."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from selffilter.errors import UserError
from selffilter.selecting.order import KeysOf, OrderOfTies, take
from selffilter.selecting.scratch import Scratch

MOST = int(np.iinfo(np.uint16).max)


def spread(
    weight_N: NDArray[np.uint16],
    rows_N: NDArray[np.bool_],
    samples: int,
    keys_of: KeysOf,
    ties: OrderOfTies,
    scratch: Scratch | None = None,
) -> None:
    """Give some rows weights that sum to a number of samples, as equal as whole numbers can be.

    Every row gets at least 1, also if that makes more samples: what is selected is selected. The
    rows that come first by their keys get what does not divide.

    Args:
        weight_N: Written to, where `rows_N`.
        rows_N: Which rows.
        samples: What their weights are to sum to.
        keys_of: Which rows come first; see `order.take`.
        ties: Likewise.
        scratch: Likewise.

    Raises:
        UserError: If a row would have to stand more than 65,535 times.
    """
    count = int(rows_N.sum())
    if not count:
        return
    each, more = divmod(max(samples, count), count)
    if each >= MOST:
        raise UserError(
            f"{samples:,} samples of {count:,} rows would meet each {each:,} times: keep more rows."
        )
    weight_N[rows_N] = each
    if more:
        weight_N[take(keys_of, rows_N, more, ties, scratch=scratch)] += 1
