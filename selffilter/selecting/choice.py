"""The mix: the most confident rows of the scored base, and a fresh draw from all of it.

arXiv 2606.23611: the training set is made of filtered, highly probable clean samples and of diverse
samples from the entire distribution. Exactly: confident = the best `keep_fraction` of the scored
base (or what another rule keeps, see `confident`); diverse = `diverse_fraction` of the base, drawn
without replacement and anew each round. A row that is already confident stays confident and is not
replaced, so the effective diverse share is smaller than asked.

Everything here is a function of its arguments: arrays with a place for each indexed row, where the
place is the row's number. Some 15 bytes a row; see `scratch` for pools that do not fit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selffilter.config import SelectConfig
from selffilter.errors import UserError
from selffilter.selecting.clean_share import CleanShare
from selffilter.selecting.confident import Size, confident_size
from selffilter.selecting.cuts import Cut, Rule, apply_rules
from selffilter.selecting.diverse import by_lot, draw_rows
from selffilter.selecting.groups import Groups
from selffilter.selecting.order import (
    Quotas,
    Ranking,
    UidsOf,
    by_uid,
    descending_keys,
    take,
)
from selffilter.selecting.repeats import logits_of, sample_with_repeats
from selffilter.selecting.scratch import Scratch
from selffilter.selecting.weights import spread

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Candidates:
    """All indexed rows of a pool, as selection sees them.

    Attributes:
        scores_N: float32, higher is better; NaN: not scored.
        base_N: bool, which rows may be selected at all.
        uids_of: Rows → (n, 2) uint64, for rows that tie.
        merit_N: float32, what rows are ranked by; None: the scores.
        columns: Further signals, for cuts.
        balance: The groups that floors and caps are about.
        strata: The groups that the diverse draw is shared out over.
        clean: What is known of the share of clean rows.
    """

    scores_N: NDArray[np.float32]
    base_N: NDArray[np.bool_]
    uids_of: UidsOf
    merit_N: NDArray[np.float32] | None = None
    columns: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    balance: Groups | None = None
    strata: Groups | None = None
    clean: CleanShare | None = None

    @property
    def ranked_by(self) -> NDArray[np.float32]:
        """What rows are ranked by, (N,) float32."""
        return self.scores_N if self.merit_N is None else self.merit_N


@dataclass(frozen=True)
class Choice:
    """A selection, and how it came about.

    Attributes:
        weight_N: uint16, how many times a pass meets each row; 0: not selected.
        confident_N: bool, whether a row is there for its score; other selected rows were drawn.
        ranked_by_N: float32, what rows are ranked by; NaN: no rank.
        ranking: Of the scored base.
        threshold: The lowest confident score; NaN if there is no confident row.
        drawn: Rows that the diverse draw met, the confident ones among them counted.
        base: Size of the base.
        size: How the confident share got its size.
        cuts: What staged cuts did.
    """

    weight_N: NDArray[np.uint16]
    confident_N: NDArray[np.bool_]
    ranked_by_N: NDArray[np.float32]
    ranking: Ranking
    threshold: float
    drawn: int
    base: int
    size: Size
    cuts: Sequence[Cut] = ()

    @property
    def rows(self) -> Rows:
        """The selected rows, ascending."""
        return np.flatnonzero(self.weight_N)

    @property
    def confident(self) -> Rows:
        """The confident rows, ascending."""
        return np.flatnonzero(self.confident_N)

    @property
    def diverse_N(self) -> NDArray[np.bool_]:
        """The diverse rows that are not confident, (N,) bool."""
        return (self.weight_N > 0) & ~self.confident_N

    @property
    def diverse(self) -> Rows:
        """The diverse rows that are not confident, ascending."""
        return np.flatnonzero(self.diverse_N)

    def counts(self) -> dict[str, Any]:
        """Return the counts of the mix, each with its base named."""
        selected = int((self.weight_N > 0).sum())
        confident = int(self.confident_N.sum())
        samples = int(self.weight_N.sum(dtype=np.int64))
        counts: dict[str, Any] = {
            "base": self.base,
            "scored_base": len(self.ranking),
            "selected": selected,
            "selected_samples": samples,
            "confident": confident,
            "diverse": selected - confident,
            "diverse_drawn": self.drawn,
            "diverse_already_confident": self.drawn - (selected - confident),
            "effective_diverse_share_of_selected": (selected - confident) / max(1, selected),
            "threshold": self.threshold,
        }
        if self.cuts:
            counts["cuts"] = [cut.record() for cut in self.cuts]
        return counts | self.size.facts()


def choose(
    candidates: Candidates,
    settings: SelectConfig,
    *,
    seed: int,
    round_: int,
    samples: int | None = None,
    scratch: Scratch | None = None,
) -> Choice:
    """Choose what the next round trains on. The same arguments give the same choice.

    Args:
        candidates: All rows.
        settings: What to keep and to draw.
        seed: The run's.
        round_: The round whose model scored; each round draws anew.
        samples: What the coming round will consume, for ``weights: samples``; None: not known, and
            every row has weight 1.
        scratch: Where arrays of a row each come from.

    Raises:
        UserError: If a cut is to keep more than there is.
    """
    scratch = scratch or Scratch()
    base_N, merit_N, base = candidates.base_N, candidates.ranked_by, int(candidates.base_N.sum())
    scored_N = base_N & np.isfinite(merit_N)
    ranking = Ranking.of(merit_N, scored_N, scratch)
    size = confident_size(
        settings, round_, candidates.scores_N, scored_N, ranking, candidates.clean
    )

    eligible_N, cuts = scored_N, list[Cut]()
    if settings.cuts and size.rows:
        rules = [Rule.of_words(words, "select.cuts") for words in settings.cuts]
        columns = {rule.signal: _column(candidates, rule.signal) for rule in rules}
        eligible_N, cuts = apply_rules(
            columns, scored_N, rules, candidates.uids_of, len(base_N), scratch
        )

    drawn_N = _draw(candidates, round(settings.diverse(round_) * base), seed, round_, scratch)
    samples = samples if settings.weights == "samples" else None
    drawn, confident_samples = int(drawn_N.sum()), None
    if samples is not None:
        share = settings.diverse_samples
        diverse_samples = drawn if share is None else round(share * samples)
        confident_samples = max(0, samples - diverse_samples)
    weight_N = _confident(
        candidates,
        settings,
        eligible_N,
        ranking if eligible_N is scored_N else None,
        size,
        confident_samples,
        seed,
        round_,
        scratch,
    )
    confident_N = weight_N > 0
    diverse_N = drawn_N & ~confident_N
    if samples is None:
        weight_N[diverse_N] = 1
    else:
        left = samples - int(weight_N.sum(dtype=np.int64))
        spread(weight_N, diverse_N, left, *by_lot(seed, "diverse weight", round_), scratch)
    threshold = float(merit_N[confident_N].min()) if confident_N.any() else math.nan
    return Choice(weight_N, confident_N, merit_N, ranking, threshold, drawn, base, size, cuts)


def _confident(
    candidates: Candidates,
    settings: SelectConfig,
    eligible_N: NDArray[np.bool_],
    ranking: Ranking | None,
    size: Size,
    samples: int | None,
    seed: int,
    round_: int,
    scratch: Scratch,
) -> NDArray[np.uint16]:
    """Return the weights of the confident rows, 0 for the others.

    `ranking` is of the eligible rows, if there is one.
    """
    merit_N = candidates.ranked_by
    if settings.confident == "sample":
        return sample_with_repeats(
            logits_of(merit_N, eligible_N, settings.temperature),
            eligible_N,
            size.rows if samples is None or not size.rows else samples,
            seed,
            "sample",
            round_,
            penalty=settings.repeat_penalty,
            most=settings.most_repeats,
            scratch=scratch,
        )

    def keys(part: slice) -> NDArray[np.uint32]:
        return descending_keys(merit_N[part])

    ties = by_uid(candidates.uids_of)
    count = min(size.rows, int(eligible_N.sum()))
    quotas = _quotas(candidates.balance, settings, eligible_N, count)
    kept_N = take(keys, eligible_N, count, ties, quotas=quotas, ranking=ranking, scratch=scratch)
    weight_N: NDArray[np.uint16] = scratch.zeros(len(kept_N), np.uint16)
    if samples is None:
        weight_N[kept_N] = 1
    else:
        spread(weight_N, kept_N, samples, keys, ties, scratch)
    return weight_N


def _quotas(
    groups: Groups | None, settings: SelectConfig, eligible_N: NDArray[np.bool_], count: int
) -> Quotas | None:
    """Return what floors and caps come to in rows.

    A floor f keeps, of each group, at least f times the share that is kept of all:
    ``⌊f · count · (rows of the group) / (rows of all)⌋`` rows, so that floors together are never
    more than `count`.
    A cap c is ``⌊c · count⌋`` rows of each group. Rows of no known group are bound by neither.
    """
    if groups is None or not count:
        return None
    sizes_G = groups.counts(eligible_N)  # the unknown come last
    rate = count / int(sizes_G.sum())
    low_G = np.floor(settings.group_floor * rate * sizes_G * (1 + 1e-12)).astype(np.int64)
    cap = settings.group_cap
    most = count if cap is None else math.floor(cap * count * (1 + 1e-12))
    high_G = np.full(len(sizes_G), most, np.int64)
    low_G[-1], high_G[-1] = 0, count
    low_G = np.minimum(low_G, high_G)
    codes_N = np.where(groups.codes_N < 0, len(groups), groups.codes_N).astype(np.int32)
    return Quotas(codes_N, low_G, high_G)


def _draw(
    candidates: Candidates, count: int, seed: int, round_: int, scratch: Scratch
) -> NDArray[np.bool_]:
    strata = candidates.strata
    return draw_rows(
        candidates.base_N,
        count,
        seed,
        "diverse",
        round_,
        codes_N=None if strata is None else strata.codes_N,
        groups=0 if strata is None else len(strata),
        scratch=scratch,
    )


def _column(candidates: Candidates, signal: str) -> NDArray[np.float32]:
    if signal not in candidates.columns:
        known = ", ".join(candidates.columns) or "none"
        raise UserError(f"select.cuts names {signal}, and the scores have {known}.")
    return candidates.columns[signal]
