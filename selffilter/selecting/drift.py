"""How scores and selections move between rounds; what the model thinks of what it trained on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selffilter.randomness import below_fraction
from selffilter.selecting.combine import quantiles
from selffilter.selecting.groups import bucketed
from selffilter.selecting.histograms import Scores, Which, finite_scores
from selffilter.selecting.scratch import chunks

Rows = NDArray[np.int64]

EXACT_ROWS = 2_000_000
SAMPLED_ROWS = 1_000_000


def jaccard(a: Rows, b: Rows) -> float:
    """Return |a ∩ b| / |a ∪ b| of two sets of rows; NaN if both are empty."""
    return moved(a, b).jaccard


@dataclass(frozen=True)
class Moved:
    """Two sets of rows, one after the other; all three numbers are of rows.

    Attributes:
        kept: In both.
        new: Only in the later one.
        dropped: Only in the earlier one.
    """

    kept: int
    new: int
    dropped: int

    @property
    def jaccard(self) -> float:
        """Intersection over union; NaN if both are empty."""
        union = self.kept + self.new + self.dropped
        return self.kept / union if union else math.nan

    @property
    def retention(self) -> float:
        """Share of the earlier rows that stayed, of those for which there was room.

        ``kept / min(rows before, rows now)``: 1 as well where a share was only made larger or
        smaller. NaN if either is empty.
        """
        room = self.kept + min(self.new, self.dropped)
        return self.kept / room if room else math.nan


def moved(before: Which, now: Which) -> Moved:
    """Compare two sets of rows.

    Args:
        before: (N,) bool, or the row numbers, each once, in any order.
        now: Likewise; of the same length if both are (N,) bool.
    """
    sizes = [int(np.count_nonzero(x)) if x.dtype == np.bool_ else len(x) for x in (before, now)]
    kept = _common(before, now)
    return Moved(kept, sizes[1] - kept, sizes[0] - kept)


def _common(a: Which, b: Which) -> int:
    if a.dtype == np.bool_ and b.dtype == np.bool_:
        if len(a) != len(b):
            raise ValueError(f"sets of rows of a pool of {len(a)} and of one of {len(b)} rows")
        return sum(int(np.count_nonzero(a[part] & b[part])) for part in chunks(len(a)))
    if a.dtype == np.bool_:
        return int(np.count_nonzero(a[b]))
    if b.dtype == np.bool_:
        return int(np.count_nonzero(b[a]))
    return len(np.intersect1d(a, b, assume_unique=True))


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rank correlation of two rounds' scores; ties get mid-ranks.

    Attributes:
        value: Between −1 and 1; NaN if fewer than two rows are scored in both, or all are equal.
        rows: How many rows it was computed from.
        of: How many are scored in both. More than `rows`: it is of a sample.
    """

    value: float
    rows: int
    of: int

    @property
    def sampled(self) -> bool:
        """Whether it is of a sample; its standard error is below ``1/√rows`` then."""
        return self.rows < self.of


def rank_correlation(
    before_N: Scores,
    now_N: Scores,
    seed: int,
    *,
    exact_rows: int = EXACT_ROWS,
    sampled_rows: int = SAMPLED_ROWS,
) -> RankCorrelation:
    """Correlate the ranks of the rows that are scored in both rounds.

    Args:
        before_N: Scores, (N,), a row's place is its number; not finite: not scored.
        now_N: Likewise.
        seed: Of the sample, which a hash of (row, seed) draws: the same in every round.
        exact_rows: Up to so many rows all of them are compared.
        sampled_rows: About how many otherwise.

    Raises:
        ValueError: If the two are not of the same length.
    """
    if len(before_N) != len(now_N):
        raise ValueError(f"scores of {len(before_N)} and of {len(now_N)} rows")
    of = sum(int(np.count_nonzero(_both(before_N, now_N, part))) for part in chunks(len(now_N)))
    share = 1.0 if of <= exact_rows else sampled_rows / of
    taken: list[tuple[Scores, Scores]] = []
    for part in chunks(len(now_N)):
        places_n = np.flatnonzero(_both(before_N, now_N, part)) + part.start
        places_n = places_n[below_fraction(places_n, share, seed, "rank correlation")]
        taken.append((before_N[places_n], now_N[places_n]))
    if not taken:
        return RankCorrelation(math.nan, 0, 0)
    ranks = [quantiles(np.concatenate(column)) for column in zip(*taken, strict=True)]
    return RankCorrelation(_correlation(ranks[0], ranks[1]), len(ranks[0]), of)


def _both(before_N: Scores, now_N: Scores, part: slice) -> NDArray[np.bool_]:
    both: NDArray[np.bool_] = np.isfinite(before_N[part]) & np.isfinite(now_N[part])
    return both


def _correlation(x_n: NDArray[np.float64], y_n: NDArray[np.float64]) -> float:
    if len(x_n) < 2:
        return math.nan
    x_n, y_n = x_n - x_n.mean(), y_n - y_n.mean()
    norm = math.sqrt(float(x_n @ x_n) * float(y_n @ y_n))
    return min(1.0, max(-1.0, float(x_n @ y_n) / norm)) if norm else math.nan


@dataclass(frozen=True)
class RepeatCounts:
    """How often the rows of a selection stand in it.

    Attributes:
        rows: Rows with a weight above 0.
        samples: Sum of the weights: what one pass over the selection consumes.
        most: The largest weight.
        effective_rows: ``samples² / Σ weight²`` (Kish): so many rows of equal weight would be as
            varied. Equal to `rows` if all weights are.
        rows_of_weight: Rows by weight: ``1``, ``2``, ``3-4``, ``5-8``, …
    """

    rows: int
    samples: int
    most: int
    effective_rows: float
    rows_of_weight: dict[str, int]


def repeat_counts(weights_N: NDArray[np.integer]) -> RepeatCounts:
    """Count repeats.

    Args:
        weights_N: (N,) integer, how many times a pass meets each row; 0: not selected.
    """
    rows = samples = squares = most = 0
    for part in chunks(len(weights_N)):
        weights_n = weights_N[part].astype(np.int64)
        rows += int(np.count_nonzero(weights_n > 0))
        samples += int(weights_n.sum())
        squares += int((weights_n * weights_n).sum())
        most = max(most, int(weights_n.max(initial=0)))
    # 1, 2, 4, … up to the first that is not below the largest weight
    bounds = [1 << power for power in range(max(0, most - 1).bit_length() + 1)]
    counts: dict[str, int] = {}
    for part in chunks(len(weights_N)):
        groups = bucketed("weight", weights_N[part], bounds)
        for name, count in zip(groups.names, groups.counts().tolist(), strict=False):
            counts[name] = counts.get(name, 0) + count
    return RepeatCounts(
        rows,
        samples,
        most,
        effective_rows=samples**2 / squares if squares else 0.0,
        rows_of_weight={name: count for name, count in counts.items() if count},
    )


@dataclass(frozen=True)
class Difference:
    """Of the mean scores of two sets of rows.

    Attributes:
        difference: Mean of the first − mean of the second, in units of the score.
        in_sd: The same in standard deviations of the second's scores.
        standard_error: Of `in_sd`.
        first: Scored rows on the one side …
        second: … and on the other.
    """

    difference: float
    in_sd: float
    standard_error: float
    first: int
    second: int


def confident_lead(scores_N: Scores, confident: Which, diverse: Which) -> Difference:
    """Compare the two shares of the selection that the model was just trained on.

    The score is −loss, or goes with it: how much better the model does on what was selected for its
    score than on what was drawn. It trained on both; where the lead grows from round to round, it
    goes its own way on the confident rows.

    Args:
        scores_N: Of the model after training, (N,).
        confident: The confident rows of the selection *before*.
        diverse: Its diverse rows that are not confident.
    """
    return _difference(finite_scores(scores_N, confident), finite_scores(scores_N, diverse))


@dataclass(frozen=True)
class Cue:
    """The memorisation cue.

    Attributes:
        difference: Mean score of consumed − mean score of probe rows, in units of the score.
        in_sd: The same in standard deviations of the probe's scores.
        standard_error: Of `in_sd`.
        consumed: Rows on the one side …
        probe: … and on the other.
    """

    difference: float
    in_sd: float
    standard_error: float
    consumed: int
    probe: int


def memorisation_cue(
    consumed_scores: NDArray[np.float32], probe_scores: NDArray[np.float32]
) -> Cue:
    """Compare rows that were trained on with rows that never are, both outside the confident share.

    Only *diverse* rows may stand among the consumed: they were drawn, not chosen for their score.
    Leaving the confident out on both sides compares like with like.

    Args:
        consumed_scores: Scores of consumed diverse rows that are not confident.
        probe_scores: Scores of probe rows that would not be.
    """
    found = _difference([consumed_scores], [probe_scores])
    return Cue(found.difference, found.in_sd, found.standard_error, found.first, found.second)


def _difference(first: Iterable[Scores], second: Iterable[Scores]) -> Difference:
    (n, mean, variance), (m, other_mean, other_variance) = _moments(first), _moments(second)
    if n < 2 or m < 2:
        return Difference(math.nan, math.nan, math.nan, n, m)
    difference = mean - other_mean
    sd = math.sqrt(other_variance) or math.nan
    error = math.sqrt(variance / n + other_variance / m)
    return Difference(difference, difference / sd, error / sd, n, m)


def _moments(parts: Iterable[Scores]) -> tuple[int, float, float]:
    """Return count, mean and unbiased variance (Chan, Golub & LeVeque 1983, for parts)."""
    count, mean, squares = 0, 0.0, 0.0
    for scores_n in parts:
        if not len(scores_n):
            continue
        values_n = scores_n.astype(np.float64)
        more, its_mean = len(values_n), float(values_n.mean())
        apart = its_mean - mean
        squares += float(((values_n - its_mean) ** 2).sum())
        squares += apart * apart * count * more / (count + more)
        count += more
        mean += apart * more / count
    return count, mean, squares / (count - 1) if count > 1 else math.nan
