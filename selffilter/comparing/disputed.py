"""Samples that one arm keeps and another does not, with how each run ranks them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selffilter.asking.ranking import BetterThan
from selffilter.comparing.agreement import by_all_and_by_none, chosen_by, once
from selffilter.comparing.arms import Arm
from selffilter.comparing.sides import Side, shards_of
from selffilter.errors import UserError
from selffilter.evaluation.truth import Truth
from selffilter.pool import multiset
from selffilter.pool.multiset import Subset
from selffilter.pool.uids import UidTable, to_hex
from selffilter.reporting.thumbnails import PAGE_IMAGE_BYTES, Tile, read_tiles
from selffilter.rundir.materialising import rows_of
from selffilter.rundir.on_disk import RunOnDisk
from selffilter.rundir.ranked import RankedScores
from selffilter.threads import several

MOST_TILES = 400
"""Of all sheets together: so many leave each picture six kB."""
_MOST_OTHERS = 3
"""Arms that the first is set against."""
_MOST_LABELLED = 20_000
"""Samples of a sheet, by lot, whose truth is looked up."""

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Disputed:
    """Two sheets that belong beside each other.

    Attributes:
        arms: The two arms that they set against each other, or the one whose seeds they compare.
        sheets: What the first arm keeps and the other does not, and the other way round.
    """

    arms: tuple[Arm, ...]
    sheets: tuple[Sheet, Sheet]

    def showing(self, most: int) -> Disputed:
        """Return them with so many samples at most."""
        one, two = self.sheets
        return replace(self, sheets=(one.showing(most), two.showing(most)))


@dataclass(frozen=True)
class Sheet:
    """Samples that have something in common.

    Attributes:
        title: What.
        among: How many uids have it.
        of: A run over whose pool they are.
        rows: int64, of those that are shown, in their order.
        uids: Of these, 32 hex digits each.
        quantiles: Letter of each run over this pool → where it ranks these rows among all, 0 worst
            to 1 best; NaN: without a score.
        clean: Per row 1: a right pair, 0: a planted one, -1: not known.
        right_share: Of right pairs, among all that have it or `labelled` of them; None: not known.
        labelled: Among how many.
        tiles: Row → picture and caption, of those that could be read.
    """

    title: str
    among: int
    of: Side
    rows: Rows
    uids: list[str]
    quantiles: dict[str, NDArray[np.float64]]
    clean: NDArray[np.int8]
    right_share: float | None
    labelled: int
    tiles: dict[int, Tile] = field(default_factory=dict)

    def showing(self, most: int) -> Sheet:
        """Return the sheet with so many samples at most, the first of them."""
        return replace(
            self,
            rows=self.rows[:most],
            uids=self.uids[:most],
            quantiles={letter: found[:most] for letter, found in self.quantiles.items()},
            clean=self.clean[:most],
        )


def disputed_samples(
    arms: Sequence[Arm],
    samples: int,
    notes: list[str],
    on_each: Callable[[int], None] = lambda _: None,
) -> list[Disputed]:
    """Draw samples by lot, read them, and see how each run ranks them.

    Of two arms: what all seeds of the one keep for their score and none of the other, and the
    other way round; of a lone arm: what all of its seeds keep, and what only some do.

    Args:
        arms: Of runs and subsets.
        samples: How many a sheet shows at most.
        notes: What cannot be shown, and why, is added.
        on_each: Called with the number of samples just read.

    Returns:
        Pairs of sheets that belong beside each other; nothing where no run says where its pool is.
    """
    asked = _pairs(arms)
    runs = [side for arm in arms for side in arm.sides if side.run is not None]
    if not asked or not runs or not samples:
        return []
    at_most = min(samples, MOST_TILES // (2 * len(asked)))
    try:
        truths = _Truths(notes)
        drawn = [
            _draw(title, uids, _pool_of(arm, runs), at_most, truths)
            for _, pair in asked
            for title, uids, arm in pair
        ]
        sheets = _ranked_best_first(drawn, runs)
    except (UserError, OSError) as error:
        notes.append(f"Samples are not shown: {error}")
        return []
    _read(sheets, notes, on_each)
    pairs = zip(asked, sheets[::2], sheets[1::2], strict=True)
    return [Disputed(of, (a, b)) for (of, _), a, b in pairs if len(a.rows) or len(b.rows)]


# --- which ------------------------------------------------------------------------------------

_Asked = tuple[str, Subset, Arm]
_Pair = tuple[tuple[Arm, ...], tuple[_Asked, _Asked]]


def _pairs(arms: Sequence[Arm]) -> list[_Pair]:
    chosen = {arm.number: [side.chosen for side in arm.sides] for arm in arms}
    first = arms[0]
    if len(arms) == 1:
        if len(first.sides) < 2:
            return []
        every = multiset.intersect([once(subset) for subset in chosen[0]])
        some = multiset.minus([once(chosen_by(chosen[0])), every])
        all_and_some = (
            ("Kept with every seed", every, first),
            ("Kept with some seeds only", some, first),
        )
        return [((first,), all_and_some)]
    found: list[_Pair] = []
    for other in arms[1 : 1 + _MOST_OTHERS]:
        one, two = chosen[first.number], chosen[other.number]
        either_way = (
            (f"{_by(first)}, not {_by(other)}", by_all_and_by_none(one, two), first),
            (f"{_by(other)}, not {_by(first)}", by_all_and_by_none(two, one), other),
        )
        found.append(((first, other), either_way))
    return found


def _by(arm: Arm) -> str:
    return f"{arm.name} ({arm.letters})"


def _pool_of(arm: Arm, runs: Sequence[Side]) -> Side:
    return arm.sides[0] if arm.is_runs else runs[0]


class _Truths:
    """Looks up which pairs are right, reading a pool's truth once; what is wrong with it is noted.

    Args:
        notes: Where that goes.
    """

    def __init__(self, notes: list[str]) -> None:
        self._notes, self._known = notes, dict[str, Truth | None]()

    def labels(self, run: RunOnDisk, rows_K: Rows) -> NDArray[np.int8]:
        """Return 1 for right pairs, 0 for planted ones, -1 where it is not known, (K,)."""
        if run.rows_version not in self._known:
            self._known[run.rows_version] = self._read(run)
        truth = self._known[run.rows_version]
        return np.full(len(rows_K), -1, np.int8) if truth is None else truth.labels(rows_K)

    def _read(self, run: RunOnDisk) -> Truth | None:
        if not run.config.evaluate.truth:
            return None
        try:
            return Truth(Path(run.config.evaluate.truth), run.pool)
        except UserError as error:
            self._notes.append(f"Right and planted pairs are not told apart: {error}")
            return None


def _draw(title: str, uids: Subset, of: Side, samples: int, truths: _Truths) -> Sheet:
    """Draw a sheet's rows, ascending; how they are ranked is still to be found out."""
    run = of.run
    assert run is not None
    some = multiset.sample(uids, min(_MOST_LABELLED, len(uids)), seed=0)
    rows = _rows(run, some)
    labels = truths.labels(run, rows)
    known = labels[labels >= 0]
    # The same seed: what is shown is part of what is looked up.
    shown = UidTable(multiset.sample(some, min(samples, len(some)), seed=0).uids_N2)
    uids_n2 = run.pool.uids_of(rows)
    here = shown.places(uids_n2) >= 0
    share = float(known.mean()) if len(known) else None
    uid_k = to_hex(uids_n2[here])
    return Sheet(title, len(uids), of, rows[here], uid_k, {}, labels[here], share, len(known))


def _rows(run: RunOnDisk, uids: Subset) -> Rows:
    """Return the usable rows of some uids, one of each, ascending."""
    rows = rows_of(run.pool, uids)[0]
    if not len(rows):
        return rows
    places = UidTable(uids.uids_N2).places(run.pool.uids_of(rows))
    return np.sort(rows[np.unique(places, return_index=True)[1]])


# --- how they are ranked ----------------------------------------------------------------------


def _ranked_best_first(drawn: Sequence[Sheet], runs: Sequence[Side]) -> list[Sheet]:
    """Look up how each run ranks all sheets' rows, and put the best of a sheet's run first."""
    found: list[dict[str, NDArray[np.float64]]] = [{} for _ in drawn]
    for side in runs:
        assert side.run is not None
        same = [k for k, sheet in enumerate(drawn)
                if sheet.of.run and sheet.of.run.rows_version == side.run.rows_version]  # fmt: skip
        if not same:
            continue
        rows = np.unique(np.concatenate([drawn[k].rows for k in same]))
        quantiles = quantiles_of(side, rows)
        for k in same:
            found[k][side.letter] = quantiles[np.searchsorted(rows, drawn[k].rows)]
    return [_ordered(sheet, those) for sheet, those in zip(drawn, found, strict=True)]


def _ordered(sheet: Sheet, quantiles: dict[str, NDArray[np.float64]]) -> Sheet:
    by = -np.nan_to_num(quantiles[sheet.of.letter], nan=-1.0)
    order = np.argsort(by, kind="stable")
    return replace(
        sheet,
        rows=sheet.rows[order],
        uids=[sheet.uids[place] for place in order],
        quantiles={letter: found[order] for letter, found in quantiles.items()},
        clean=sheet.clean[order],
    )


def quantiles_of(side: Side, rows_K: Rows) -> NDArray[np.float64]:
    """Return where a run's compared round ranks some rows among those it may select.

    Args:
        side: A run; its tables are read twice, a shard at a time.
        rows_K: (K,) int64, of the run's pool, ascending.

    Returns:
        (K,) between 0 and 1: 1 − (place − ½) / rows; NaN for a row without a score.
    """
    assert side.run is not None and side.round is not None
    ranked, score_K = RankedScores(side.run, side.round), np.full(len(rows_K), np.nan, np.float32)
    shards = range(shards_of(side.run, side.round))
    first = side.run.pool.first_row
    for shard in shards:
        begin, end = np.searchsorted(rows_K, [first[shard], first[shard + 1]])
        if begin < end:
            score_K[begin:end] = ranked.of_shard(shard)[rows_K[begin:end] - first[shard]]
    if not np.isfinite(score_K).any():
        return np.full(len(rows_K), np.nan)
    better = BetterThan(score_K)
    for ranked_n in several(ranked.of_base, shards):
        better.count(ranked_n)
    ranks_K = better.ranks_K
    places = 1 - (ranks_K + 0.5) / max(1, better.scored)
    return np.where(ranks_K >= 0, np.clip(places, 0.0, 1.0), np.nan)


# --- reading them -----------------------------------------------------------------------------


def _read(drawn: Sequence[Sheet], notes: list[str], on_each: Callable[[int], None]) -> None:
    """Read pictures and captions, each pool's together, all of them within the page's bound."""
    by_pool: dict[str, list[Sheet]] = {}
    for sheet in drawn:
        assert sheet.of.run is not None
        by_pool.setdefault(sheet.of.run.rows_version, []).append(sheet)
    for sheets in by_pool.values():
        run = sheets[0].of.run
        assert run is not None
        rows = np.concatenate([sheet.rows for sheet in sheets])
        if not len(rows):
            continue
        tiles, why_not = read_tiles(run, rows, on_each, PAGE_IMAGE_BYTES // len(by_pool))
        if why_not:
            notes.append(f"Samples are not all shown: {why_not}")
        for sheet in sheets:
            sheet.tiles.update({row: tiles[row] for row in sheet.rows.tolist() if row in tiles})
