"""From what is known of a row to sentences. Pure."""

from __future__ import annotations

import math

from selffilter.asking.standing import Standing

_OFTEN = {1: "once", 2: "twice"}


def explain(standing: Standing) -> str:
    """Say what happened to a row in a round, and why."""
    parts = [_trained(standing), _scored(standing), _selected(standing), _groups(standing)]
    parts += [f"The guard: {alarm}" for alarm in standing.alarms]
    return " ".join(part for part in parts if part)


def _trained(s: Standing) -> str:
    if not s.trained:
        return "Training is not finished."
    if not s.may_train_on:
        return "Not trained on."
    if s.times is None:
        return "Trained on (how often is not known)."
    if s.times == 0:
        return "Among what was trained on, but its turn did not come."
    return f"Trained on {_OFTEN.get(s.times, f'{s.times:,} times')}."


def _scored(s: Standing) -> str:
    if not s.trained:
        return ""
    if not s.scored:
        return "Scoring is not finished."
    if s.failure is not None:
        return ""
    if s.score is None:
        return "No score" + (": nothing is kept for it." if s.scores_from == "none" else ".")
    said = f"{s.signal} {s.score:.4g}"
    if s.scored_round is not None and s.scored_round != s.round:
        said += f" (by the model of round {s.scored_round})"
    if s.by_merit:
        said += ", without a merit" if s.merit is None else f", merit {s.merit:.4g}"
    if s.rank is not None and s.quantile is not None:
        verb = "place" if s.in_base else "that would be place"
        said += f": {verb} {s.rank + 1:,} of {s.scored_base:,} (quantile {_place(s.quantile)})"
    return said + "."


def _selected(s: Standing) -> str:
    if not s.scored:
        return ""
    what = "merit" if s.by_merit else "score"
    threshold = "" if s.threshold is None else f"{s.threshold:.4g}"
    difference = s.above_threshold
    far = "" if difference is None else f"{abs(difference):.2g}"
    fate = s.fate
    if fate == "open":
        return "Selecting is not finished."
    if fate == "failed":
        return f"Cannot be used: {s.failure}."
    if fate == "probe":
        return "Held out as probe: scored, never trained on."
    if fate == "outside":
        return "Outside pool.subset: scored, never selected."
    if fate == "removed":
        return _removed(s)
    if fate == "no_score":
        return f"NOT SELECTED: without a {what} only the diverse draw could take it."
    if fate == "cut":
        return _cut(s)
    if fate == "below_threshold":
        return f"NOT SELECTED: {far} below the lowest confident {what}, {threshold}."
    if fate == "tied":
        return (
            f"NOT SELECTED: its {what} is that of the last confident row, {threshold}, and ties "
            "went to others."
        )
    if fate == "passed_over":
        return (
            f"NOT SELECTED, though {far} above the lowest confident {what}, {threshold}: "
            f"{_passed_over(s)}."
        )
    weight = f", weight {s.weight}" if s.weight != 1 else ""
    if fate == "confident":
        above = f"{far} above the lowest confident {what}, {threshold}"
        return f"SELECTED as confident{weight}: {above}."
    below = f"; its {what} is {far} below the lowest confident one, {threshold}" if far else ""
    if difference is not None and difference >= 0:
        below = ""
    return f"SELECTED as {fate}{weight}: drawn, whatever its score{below}."


def _removed(s: Standing) -> str:
    assert s.removed is not None
    like = ""
    if s.removed.of_row is not None:
        like = f", of row {s.removed.of_row:,}"
        like += f" ({s.removed.of_uid})" if s.removed.of_uid else ""
    if s.removed.of is not None:
        like = f", {s.removed.of}"
    return f"Removed before selecting: {s.removed.reason.replace('_', ' ')}{like}."


def _cut(s: Standing) -> str:
    cut = s.cut
    assert cut is not None
    which = f"cut {s.cuts.index(cut) + 1} of {len(s.cuts)}, by {cut.signal}"
    if cut.lowest_kept is None:
        return f"NOT SELECTED: {which}, kept no row."
    if cut.score is None:
        return f"NOT SELECTED: {which}: it has no such score."
    return f"NOT SELECTED: {which}: {cut.score:.4g} is below {cut.lowest_kept:.4g}."


def _passed_over(s: Standing) -> str:
    if s.rule == "sample":
        return "rows are drawn by score here, and it was not drawn"
    if s.balanced_by is not None:
        return f"the floors and caps of select.balance={s.balanced_by} gave its place to others"
    return "its place went to others"


def _groups(s: Standing) -> str:
    """Say how often rows like it are selected; nothing of one that could not be."""
    known = [group for group in s.groups if group.relative_rate is not None]
    if not known or not s.in_base:
        return ""
    said = ", ".join(f"{g.grouping} {g.group} {g.relative_rate:.2f}×" for g in known)
    return f"Its groups, relative to the average row: {said}."


def _place(quantile: float) -> str:
    """Write a quantile with so many digits that the best of very many is not at 1."""
    distance = min(quantile, 1 - quantile)
    digits = 3 if distance <= 0 else max(3, math.ceil(-math.log10(distance)))
    return f"{quantile:.{digits}f}"
