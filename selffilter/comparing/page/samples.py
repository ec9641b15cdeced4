"""Contact sheets of what one arm keeps and another does not, in pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from selffilter.comparing.arms import Arm
from selffilter.comparing.disputed import Disputed, Sheet
from selffilter.comparing.page.named import about, arm_key, mark
from selffilter.plain_text import clipped
from selffilter.reporting.marks import kind_of, marker
from selffilter.reporting.markup import Child, Markup, element, joined
from selffilter.reporting.tiles import sample, sheet_of

_WIDTH, _EDGE, _LINE = 96.0, 4.0, 9.0
_MOST_LINES = 4


def samples(disputed: Sequence[Disputed], arms: Sequence[Arm]) -> Markup | None:
    """The sheets; None if there are none."""
    if not disputed:
        return None
    runs = [arm for arm in arms if arm.is_runs]
    several = any(len(arm.sides) > 1 for arm in runs)
    who = "Kept by all seeds of one arm and by none of another, " if several else ""
    told = f"{who}drawn by lot, the best of the arm that keeps them first."
    scored = {
        letter
        for pair in disputed
        for one in pair.sheets
        for letter, quantiles in one.quantiles.items()
        if np.isfinite(quantiles).any()
    }
    runs = [arm for arm in runs if any(side.letter in scored for side in arm.sides)]
    drawn = {arm.number for pair in disputed for arm in _lines(pair, runs)}
    truth = any((one.clean >= 0).any() for pair in disputed for one in pair.sheets)
    if len(arms) == 1:
        told = "Drawn by lot, the best first."
    return joined(
        about(
            told[0].upper() + told[1:],
            "Below each caption: how many of all rows the last scores of a sheet’s arms hold it",
            "better than, on average; and where each run ranks it, the best to the right.",
            "✓: a right pair; ✗, with a dashed frame: a planted one." if truth else "",
        ),
        arm_key([arm for arm in runs if arm.number in drawn]),
        [
            element(
                "div",
                [_sheet(one, _lines(pair, runs), pair.arms) for one in pair.sheets],
                class_="pair",
            )
            for pair in disputed
        ],
    )


def _lines(pair: Disputed, runs: Sequence[Arm]) -> list[Arm]:
    """Return which of the arms with scores are drawn: those of the sheets first, then others."""
    numbers = {arm.number for arm in pair.arms}
    return sorted(runs, key=lambda arm: arm.number not in numbers)[:_MOST_LINES]


def _sheet(sheet: Sheet, lines: Sequence[Arm], own: Sequence[Arm]) -> Markup:
    told = f"{len(sheet.rows)} of {sheet.among:,}"
    if sheet.right_share is not None:
        of = "" if sheet.labelled >= sheet.among else f" of {sheet.labelled:,} drawn"
        told += f" · {sheet.right_share:.0%} right pairs{of}"
    tiles = [_tile(sheet, k, lines, own) for k in range(len(sheet.rows))]
    return sheet_of(sheet.title, told, tiles)


def _tile(sheet: Sheet, place: int, lines: Sequence[Arm], own: Sequence[Arm]) -> Markup:
    row, clean = int(sheet.rows[place]), int(sheet.clean[place])
    ranked = [
        (arm, [(side.letter, float(sheet.quantiles[side.letter][place]))
               for side in arm.sides if side.letter in sheet.quantiles])
        for arm in lines
    ]  # fmt: skip
    ranked = [(arm, [x for x in found if math.isfinite(x[1])]) for arm, found in ranked]
    known = [(arm, found) for arm, found in ranked if found]
    score = [
        element("span", mark(arm), f"{np.mean([q for _, q in found]):.0%} ", class_="named")
        for arm, found in known
        if arm.number in {one.number for one in own}
    ]
    return sample(
        sheet.tiles.get(row),
        row,
        joined(score) if score else "no score",
        _strip(known),
        f"selffilter why {clipped(sheet.of.name, 80)} {sheet.uids[place]}",
        None if clean < 0 else clean,
    )


def _strip(ranked: Sequence[tuple[Arm, list[tuple[str, float]]]]) -> Markup | None:
    """Draw, an arm a line, where each run ranks a sample."""
    if not ranked:
        return None
    height = _LINE * len(ranked) + 3
    drawn: list[Child] = []
    words = []
    for line, (arm, found) in enumerate(ranked):
        y = 1.5 + _LINE * (line + 0.5)
        drawn.append(element("line", x1=_EDGE, x2=_WIDTH - _EDGE, y1=y, y2=y, class_="way"))
        for letter, quantile in found:
            x = _EDGE + quantile * (_WIDTH - 2 * _EDGE)
            drawn.append(marker(kind_of(arm.number), x, y))
            words.append(f"{letter}: better than {quantile:.0%}")
    return element(
        "svg", element("title", "; ".join(words)), drawn,
        viewBox=f"0 0 {_WIDTH:g} {height:g}", class_="spark", role="img",
    )  # fmt: skip
