"""Whom a selection favours: rates per group against the base's, and which groups are vanishing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from selffilter.selecting.groups import Groups
from selffilter.selecting.histograms import Which

Counts = NDArray[np.int64]

UNKNOWN_NAME = "(unknown)"
VANISHING_BELOW = 0.25
_FALSE_ALARMS = 0.01  # expected chance of any, over all groups of a grouping


@dataclass(frozen=True)
class SelectionRates:
    """How often the rows of each group are selected.

    Every array has a place for each group and, as the last, one for the rows of no known group. A
    group of which the base has no row has NaN for its rates.

    Attributes:
        grouping: What rows are grouped by.
        names: Name of each group, (G,).
        base_G: Rows in the base, (G + 1,) int64.
        selected_G: Selected rows, (G + 1,) int64.
        samples_G: Samples: a selected row counts as often as its weight says, (G + 1,) int64.

    Raises:
        ValueError: If more rows of a group are selected than the base has.
    """

    grouping: str
    names: list[str]
    base_G: Counts
    selected_G: Counts
    samples_G: Counts

    def __post_init__(self) -> None:
        if (self.selected_G > self.base_G).any():
            raise ValueError(f"rows are selected of a {self.grouping} of which the base has fewer")

    @property
    def overall_rate(self) -> float:
        """Selected rows / rows of the base; NaN if the base is empty."""
        base = int(self.base_G.sum())
        return int(self.selected_G.sum()) / base if base else math.nan

    @property
    def base_share_G(self) -> NDArray[np.float64]:
        """Share of the base's rows, (G + 1,)."""
        return _shares(self.base_G)

    @property
    def relative_rate_G(self) -> NDArray[np.float64]:
        """Rate of a group / overall rate, (G + 1,): 1 is as often as the average row.

        Weighed by `base_share_G` they average to 1.
        """
        return _divided(self.selected_G, self.base_G * self.overall_rate)

    @property
    def relative_samples_G(self) -> NDArray[np.float64]:
        """Share of the samples / share of the base, (G + 1,): what training sees of a group."""
        return _divided(_shares(self.samples_G), self.base_share_G)

    @property
    def standard_error_G(self) -> NDArray[np.float64]:
        """Of `relative_rate_G`, (G + 1,): binomial, ``√(p̃(1 − p̃)/ñ)`` / overall rate.

        With two selected and two other rows added (Agresti & Coull 1998), so that none of three
        rows is no certainty.
        """
        rows_G = self.base_G + 4.0
        rate_G = (self.selected_G + 2.0) / rows_G
        error_G = np.sqrt(rate_G * (1 - rate_G) / rows_G)
        return np.where(self.base_G > 0, error_G / (self.overall_rate or math.nan), math.nan)

    @property
    def coverage(self) -> float:
        """Share of the groups of the base that have a selected row; NaN without groups."""
        there = self.base_G[:-1] > 0
        return float((self.selected_G[:-1][there] > 0).mean()) if there.any() else math.nan

    @property
    def coverage_by_lot(self) -> float:
        """What `coverage` is to be expected if as many rows are drawn uniformly from the base.

        ``mean(1 − (1 − rate)^rows)``, as if rows were drawn independently: groups of few rows are
        missed by any selection. NaN without groups.
        """
        rows_G = self.base_G[:-1][self.base_G[:-1] > 0]
        if not len(rows_G):
            return math.nan
        return float((1 - (1 - min(1.0, self.overall_rate)) ** rows_G).mean())

    @property
    def coverage_ratio(self) -> float:
        """``coverage / coverage_by_lot``, at most 1; NaN without groups or selected rows."""
        by_lot = self.coverage_by_lot
        return min(1.0, self.coverage / by_lot) if by_lot > 0 else math.nan

    @property
    def entropy_ratio(self) -> float:
        """Over how much of the base the selected rows are spread, between 0 and 1.

        ``exp(−KL(selected ‖ base))``, the perplexity of the selection's groups relative to the
        base's: 1 if groups are selected in proportion, f if only groups that hold the share f of
        the base are, in proportion among themselves. Few rows in many groups always look uneven:
        what uniform sampling without replacement adds to KL on average, ``(G − 1)/2 · (1/selected −
        1/base)`` (Miller 1955), is taken off. NaN without known rows in both.
        """
        base_G, selected_G = self.base_G[:-1].astype(np.float64), self.selected_G[:-1]
        base, selected = float(base_G.sum()), int(selected_G.sum())
        if not base or not selected:
            return math.nan
        there = selected_G > 0
        share_G = selected_G[there] / selected
        divergence = float((share_G * np.log(share_G * base / base_G[there])).sum())
        by_chance = (np.count_nonzero(base_G) - 1) / 2 * (1 / selected - 1 / base)
        return math.exp(-max(0.0, divergence - max(0.0, by_chance)))

    def highest_rate_G(self, false_alarms: float) -> NDArray[np.float64]:
        """Return what the relative rates may be at most, (G + 1,).

        Upper ends of Wilson's score intervals (1927). They fail for a given group with this
        probability, on one side.
        """
        z = NormalDist().inv_cdf(1 - false_alarms)
        rows_G = np.maximum(self.base_G, 1)
        rate_G = self.selected_G / rows_G
        middle_G = rate_G + z * z / (2 * rows_G)
        half_G = z * np.sqrt(rate_G * (1 - rate_G) / rows_G + (z / (2 * rows_G)) ** 2)
        highest_G = (middle_G + half_G) / (1 + z * z / rows_G)
        return np.where(self.base_G > 0, highest_G / (self.overall_rate or math.nan), math.nan)

    def table(self) -> pa.Table:
        """Return all of it, a line a group with rows in the base or the selection."""
        there = np.flatnonzero((self.base_G > 0) | (self.selected_G > 0))
        names = [*self.names, UNKNOWN_NAME]
        columns = {
            "base": self.base_G,
            "base_share": self.base_share_G,
            "selected": self.selected_G,
            "samples": self.samples_G,
            "relative_rate": self.relative_rate_G,
            "standard_error": self.standard_error_G,
            "relative_samples": self.relative_samples_G,
        }
        return pa.table(
            {"group": pa.array([names[place] for place in there], pa.string())}
            | {name: pa.array(values_G[there]) for name, values_G in columns.items()}
        )


def selection_rates(
    groups: Groups,
    base_N: NDArray[np.bool_],
    selected: Which,
    weights: NDArray[np.integer] | None = None,
) -> SelectionRates:
    """Count a base and what was selected of it by group.

    Args:
        groups: Of all rows, (N,).
        base_N: (N,) bool, which rows may be selected.
        selected: The selected rows, (N,) bool, or their numbers, (K,).
        weights: How many times a pass meets each row: (N,), or (K,) beside row numbers; None: once.

    Raises:
        ValueError: If lengths do not fit, or rows are selected that are not of the base.
    """
    if selected.dtype == np.bool_:
        selected_G = groups.counts(selected)
        # A weight says itself that a row is selected only where it is above 0.
        samples_G = selected_G if weights is None else groups.counts(weights)
    else:
        rows = selected.astype(np.int64, copy=False)
        selected_G = groups.counts_of_rows(rows)
        samples_G = selected_G if weights is None else groups.counts_of_rows(rows, weights)
    return SelectionRates(groups.name, groups.names, groups.counts(base_N), selected_G, samples_G)


@dataclass(frozen=True)
class Rate:
    """The rate of one group, to be named in a report.

    Attributes:
        group: Its name.
        base: Its rows in the base.
        selected: Its selected rows.
        relative_rate: See `SelectionRates.relative_rate_G`.
        standard_error: Of that.
    """

    group: str
    base: int
    selected: int
    relative_rate: float
    standard_error: float


def least_and_most(rates: SelectionRates, count: int = 5) -> tuple[list[Rate], list[Rate]]:
    """Name the groups that are selected the least and the most, for their size.

    Those come first whose rate is furthest from the overall rate in standard errors, so that a
    group of three rows does not stand before one of a million.

    Args:
        rates: Of a selection.
        count: How many of each at most.

    Returns:
        The least, the surest first; and the most. Only groups that are two standard errors away.
    """
    relative_G, error_G = rates.relative_rate_G[:-1], rates.standard_error_G[:-1]
    with np.errstate(invalid="ignore"):
        away_G = (relative_G - 1) / error_G
    away_G = np.where(np.isfinite(away_G), away_G, 0.0)
    order = np.argsort(away_G, kind="stable")
    least = [_rate(rates, int(g)) for g in order[:count] if away_G[g] <= -2]
    most = [_rate(rates, int(g)) for g in order[::-1][:count] if away_G[g] >= 2]
    return least, most


def _rate(rates: SelectionRates, place: int) -> Rate:
    return Rate(
        rates.names[place],
        int(rates.base_G[place]),
        int(rates.selected_G[place]),
        float(rates.relative_rate_G[place]),
        float(rates.standard_error_G[place]),
    )


@dataclass(frozen=True)
class Vanishing:
    """A group that a run is losing.

    Attributes:
        group: Its name.
        base: Its rows in the base, in the latest round.
        relative_rates: Its rate relative to the overall rate, one a round, the oldest first.
        rounds: For how many rounds without a break it has been below the bound.
    """

    group: str
    base: int
    relative_rates: list[float]
    rounds: int


def vanishing(
    rounds: Sequence[SelectionRates],
    below: float = VANISHING_BELOW,
    most: int = 20,
) -> list[Vanishing]:
    """Name the groups that are vanishing.

    A group is, if in the latest round its relative rate is below a bound, surely (the upper end of
    its interval is, at 1 % for all groups together), and it is not recovering: its rate is not
    above that of the round before by two standard errors.

    Args:
        rounds: The same grouping in each round, the oldest first.
        below: The bound.
        most: How many to name; those with the most rows in the base come first.

    Raises:
        ValueError: If rounds differ in their groups.
    """
    if not rounds:
        return []
    latest = rounds[-1]
    if any((r.grouping, r.names) != (latest.grouping, latest.names) for r in rounds):
        raise ValueError(f"rounds of {latest.grouping} with different groups cannot be compared")
    groups = max(1, int(np.count_nonzero(latest.base_G[:-1])))
    surely_RG = np.stack([r.highest_rate_G(_FALSE_ALARMS / groups)[:-1] < below for r in rounds])
    relative_RG = np.stack([r.relative_rate_G[:-1] for r in rounds])
    lost_G = surely_RG[-1]
    if len(rounds) > 1:
        noise_G = np.hypot(latest.standard_error_G, rounds[-2].standard_error_G)[:-1]
        lost_G = lost_G & ~(relative_RG[-1] - relative_RG[-2] > 2 * noise_G)
    lost = np.flatnonzero(lost_G)
    lost = lost[np.argsort(-latest.base_G[lost], kind="stable")][:most]
    return [
        Vanishing(
            group=latest.names[g],
            base=int(latest.base_G[g]),
            relative_rates=relative_RG[:, g].tolist(),
            rounds=int(np.cumprod(surely_RG[::-1, g]).sum()),
        )
        for g in lost
    ]


def _shares(counts_G: Counts) -> NDArray[np.float64]:
    return counts_G / max(1, int(counts_G.sum()))


def _divided(a_G: NDArray[np.number], b_G: NDArray[np.number]) -> NDArray[np.float64]:
    return np.divide(a_G, b_G, out=np.full(len(a_G), np.nan), where=b_G > 0)
