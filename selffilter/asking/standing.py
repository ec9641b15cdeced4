"""What is known of a row in a round: how often it was trained on, its score, what was selected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Removed:
    """That a row was taken out before selecting.

    Attributes:
        reason: Why, in a word.
        of_row: The row that stays in its place, or is like it; None: there is none.
        of_uid: Its uid, 32 hex digits.
        of: The evaluation image that it shows; None: it is not for that.
    """

    reason: str
    of_row: int | None = None
    of_uid: str | None = None
    of: str | None = None


@dataclass(frozen=True)
class CutLine:
    """One of a round's staged cuts, as far as it concerns a row.

    Attributes:
        signal: What it cut by.
        lowest_kept: The lowest score that it kept; None: it kept none.
        score: The row's; None: it has none.
    """

    signal: str
    lowest_kept: float | None
    score: float | None


@dataclass(frozen=True)
class Group:
    """A watched group that a row belongs to.

    Attributes:
        grouping: As in ``select.watch``.
        group: Its name.
        base: Its rows in the base.
        relative_rate: How often it is selected, 1: as often as the average row; None: unknown.
        standard_error: Of that.
    """

    grouping: str
    group: str
    base: int
    relative_rate: float | None
    standard_error: float | None


@dataclass(frozen=True)
class Standing:
    """A row in a round.

    Attributes:
        round: The round.
        trained: Whether its training is finished.
        scored: Whether its scoring is.
        selected: Whether its selection is.
        may_train_on: Whether the row was among those that the round trained on.
        times: How many of its batches held the row; None: not known.
        failure: Why the row cannot be used; None: it can.
        probe: Whether it is held out.
        outside: Whether it is outside ``pool.subset``.
        removed: Whether, and why, it was removed before selecting.
        scores_from: "model", "given", "carried" or "none": see `planning.scores_from`.
        signal: What rows are scored by.
        score: The row's score; None: it has none.
        scored_round: The round whose model gave it; None: none did.
        merit: What the row is ranked by, if that is not the score.
        by_merit: Whether rows are ranked by merit.
        rank: Rows of the scored base that are strictly better; None without a score.
        scored_base: Rows that are ranked.
        rule: The config's ``select.confident``.
        balanced_by: The grouping that floors and caps are about, if any.
        threshold: The lowest confident score (or merit); None: nothing is confident.
        cuts: The staged cuts.
        share: Why it is selected: "confident", "diverse"; None: it is not.
        weight: How often a pass of the next round meets it; 0: never.
        groups: The watched groups that it belongs to, of groupings with more than one.
        alarms: What the guard had against the round's selection, a sentence each.
    """

    round: int
    trained: bool = False
    scored: bool = False
    selected: bool = False
    may_train_on: bool = False
    times: int | None = None
    failure: str | None = None
    probe: bool = False
    outside: bool = False
    removed: Removed | None = None
    scores_from: str = "none"
    signal: str = ""
    score: float | None = None
    scored_round: int | None = None
    merit: float | None = None
    by_merit: bool = False
    rank: int | None = None
    scored_base: int = 0
    rule: str = "top"
    balanced_by: str | None = None
    threshold: float | None = None
    cuts: tuple[CutLine, ...] = ()
    share: str | None = None
    weight: int = 0
    groups: tuple[Group, ...] = ()
    alarms: tuple[str, ...] = ()

    @property
    def ranked_by(self) -> float | None:
        """What the row is ranked by: its merit or its score."""
        return self.merit if self.by_merit else self.score

    @property
    def above_threshold(self) -> float | None:
        """How far it is above the lowest confident row, below 0 if it is lower; None: unknown."""
        if self.ranked_by is None or self.threshold is None:
            return None
        return self.ranked_by - self.threshold

    @property
    def in_base(self) -> bool:
        """Whether it could be selected at all."""
        return not (self.failure or self.probe or self.outside or self.removed)

    @property
    def quantile(self) -> float | None:
        """Its place in the scored base between 0, the worst, and 1, the best."""
        if self.rank is None or not self.scored_base:
            return None
        return 1 - (self.rank + 0.5) / max(self.scored_base, self.rank + 1)

    @property
    def fate(self) -> str:
        """What became of it, in a word.

        Returns:
            The share that it was selected for; or "failed", "probe", "outside", "removed",
            "no_score", "cut", "below_threshold", "tied", "passed_over"; "open" where the stage that
            decides is not finished.
        """
        decided: list[tuple[bool, str]] = [
            (not self.scored, "open"),
            (self.failure is not None, "failed"),
            (self.probe, "probe"),
            (self.outside, "outside"),
            (not self.selected, "open"),
            (self.share is not None, str(self.share)),
            (self.removed is not None, "removed"),
            (self.ranked_by is None or self.threshold is None, "no_score"),
            (self.cut is not None, "cut"),
            ((self.above_threshold or 0.0) < 0, "below_threshold"),
            (self.above_threshold == 0, "tied"),
        ]
        return next((fate for is_so, fate in decided if is_so), "passed_over")

    @property
    def cut(self) -> CutLine | None:
        """The first staged cut that it did not pass; None: it passed all."""
        for cut in self.cuts:
            if cut.score is None or cut.lowest_kept is None or cut.score < cut.lowest_kept:
                return cut
        return None

    def record(self) -> dict[str, Any]:
        """Return it as plain values, the words in `explain` aside."""
        keys = (
            "round", "trained", "scored", "selected", "may_train_on", "times", "failure", "probe",
            "outside", "scores_from", "signal", "score", "scored_round", "merit", "rank",
            "scored_base", "quantile", "threshold", "above_threshold", "share", "weight", "fate",
        )  # fmt: skip
        return {key: getattr(self, key) for key in keys} | {
            "removed": None if self.removed is None else vars(self.removed),
            "cuts": [vars(cut) for cut in self.cuts],
            "groups": [vars(group) for group in self.groups],
            "alarms": list(self.alarms),
        }
