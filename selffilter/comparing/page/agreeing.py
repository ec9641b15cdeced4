"""How far the sides agree on what to keep: counts, matrices, and means within arms and between."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from selffilter.comparing.agreement import Means
from selffilter.comparing.arms import Arm, same_start
from selffilter.comparing.gather import Gathered
from selffilter.comparing.page.named import about, arm_name, mark
from selffilter.comparing.sides import Side
from selffilter.comparing.tables import confident_title
from selffilter.reporting.axes import Scale, chart, label, whole
from selffilter.reporting.marks import kind_of, marker
from selffilter.reporting.markup import Child, Markup, element, joined
from selffilter.reporting.parts import number, table

_CELL, _EDGE = 34.0, 40.0
_WIDTH = 380.0
_MOST_BESIDE = 12
"""Sides: matrices of more need the width of the page."""
_MOST_BARS = 26


def agreeing(found: Gathered) -> Markup:
    """What is kept by how many, and how alike each two are."""
    ordered = [side for arm in found.arms for side in arm.sides]
    order = np.array([found.sides.index(side) for side in ordered])
    kept = found.kept.jaccard_KK[np.ix_(order, order)]
    chosen = found.chosen.jaccard_KK[np.ix_(order, order)]
    by_score = any(side.keeps_by_score for side in found.sides)
    shown = confident_title(found.sides) if by_score else "what they keep"
    what = "confident rows" if by_score else shown
    panels = [_panel(f"Jaccard index: {what}", chosen, ordered, found.arms)]
    if by_score:
        panels.append(_panel("Jaccard index: all that they keep", kept, ordered, found.arms))
    ranks = _spearman(found, ordered)
    if len(ranked := np.flatnonzero(np.isfinite(ranks).any(axis=1))):
        np.fill_diagonal(ranks, 1.0)
        some = [ordered[k] for k in ranked]
        title = "Rank correlation of the scores (Spearman)"
        panels.append(_panel(title, ranks[np.ix_(ranked, ranked)], some, found.arms))
    title = f"{shown[0].upper()}{shown[1:]}: kept by how many"
    counts = element("figure", element("h3", title), _by_how_many(found))
    beside = len(found.sides) <= _MOST_BESIDE
    return joined(
        about(
            _counted(found, shown),
            "In the matrices 1 is the same; runs of one arm stand beside each other. Draws by lot",
            "agree too: of two that keep the shares k and m of the same rows the Jaccard index is",
            "km / (k + m − km).",
        ),
        element("div", counts, panels if beside else None, class_="charts halves"),
        None if beside else panels,
        _between(found),
    )


def _counted(found: Gathered, shown: str) -> str:
    by_K, sides = found.agreement.chosen_by_K, len(found.sides)
    total, every = int(by_K.sum()), int(by_K[-1])
    told = f"{shown[0].upper()}{shown[1:]}: {every:,} samples are kept by all {sides}, "
    told += f"{total - every:,} by some and not by others"
    if found.agreement.of_pool is not None and all(side.run for side in found.sides):
        told += f". The pool has {found.agreement.of_pool:,} rows, with those that cannot be "
        told += "selected or share a uid"
    return told + "."


def _by_how_many(found: Gathered) -> Markup:
    """Draw how many uids are kept by exactly so many sides."""
    by_K = found.agreement.chosen_by_K[:_MOST_BARS]
    width, height = _WIDTH, 190.0
    y = Scale(0.0, float(max(1, by_K.max())), height - 34, 16.0)
    step = (width - 20) / len(by_K)
    drawn: list[Child] = []
    for place, count in enumerate(by_K.tolist()):
        x = 10 + step * (place + 0.5)
        top = y(float(count))
        drawn.append(
            element("rect", x=x - 0.36 * step, y=top, width=0.72 * step,
                    height=max(0.5, height - 34 - top), class_="count")
        )  # fmt: skip
        drawn.append(label(x, top - 4, whole(count), "middle"))
        drawn.append(label(x, height - 20, str(place + 1), "middle"))
    drawn.append(label(width - 10, height - 4, "kept by so many", "end", "soft"))
    words = ", ".join(f"{count:,} by {k + 1}" for k, count in enumerate(by_K.tolist()))
    return chart(f"samples by how many keep them: {words}", drawn, width=width, height=height)


def _panel(
    title: str, value_KK: NDArray[np.float64], sides: Sequence[Side], arms: Sequence[Arm]
) -> Markup:
    drawn = matrix(title, value_KK, sides, arms)
    kind = "wide" if len(sides) > _MOST_BESIDE else None
    return element("figure", element("h3", title), element("div", drawn, class_=kind))


def matrix(
    title: str, value_KK: NDArray[np.float64], sides: Sequence[Side], arms: Sequence[Arm]
) -> Markup:
    """Draw a number of each two sides, the darker the more alike.

    Args:
        title: What the number is.
        value_KK: (K, K) at most 1; NaN: none.
        sides: K of them, those of an arm beside each other.
        arms: Of these.
    """
    arm_of = {side.letter: arm for arm in arms for side in arm.sides}
    size = _EDGE + _CELL * len(sides)
    drawn: list[Child] = []
    for i, one in enumerate(sides):
        at = _EDGE + _CELL * (i + 0.5)
        kind = kind_of(arm_of[one.letter].number)
        drawn += [
            marker(kind, at - 8, _EDGE - 12, 1.1), label(at, _EDGE - 8, one.letter, "start"),
            marker(kind, _EDGE - 26, at, 1.1), label(_EDGE - 18, at + 4, one.letter, "start"),
        ]  # fmt: skip
        for j, two in enumerate(sides):
            value = float(value_KK[i, j])
            x, y = _EDGE + _CELL * j, _EDGE + _CELL * i
            if not np.isfinite(value):
                drawn.append(label(x + _CELL / 2, y + _CELL / 2 + 4, "–", "middle", "soft"))
                continue
            told = f"{one.letter} and {two.letter}: {value:.3f}"
            drawn.append(
                element("rect", element("title", told), x=x + 0.5, y=y + 0.5, width=_CELL - 1,
                        height=_CELL - 1, class_="heat", fill_opacity=max(0.0, value))
            )  # fmt: skip
            on = "on" if value > 0.72 else ""
            drawn.append(label(x + _CELL / 2, y + _CELL / 2 + 4, f"{value:.2f}", "middle", on))
    drawn += _separators(sides, arm_of, size)
    pairs = ", ".join(
        f"{a.letter} and {b.letter} {value_KK[i, j]:.2f}"
        for i, a in enumerate(sides)
        for j, b in enumerate(sides[:i])
    )
    return chart(f"{title}: {pairs}", drawn, width=max(size, _WIDTH), height=size)


def _separators(sides: Sequence[Side], arm_of: dict[str, Arm], size: float) -> list[Markup]:
    found = []
    for place in range(1, len(sides)):
        if arm_of[sides[place].letter] is not arm_of[sides[place - 1].letter]:
            at = _EDGE + _CELL * place
            found += [
                element("line", x1=at, x2=at, y1=_EDGE - 6, y2=size, class_="between"),
                element("line", x1=_EDGE - 6, x2=size, y1=at, y2=at, class_="between"),
            ]
    return found


def _spearman(found: Gathered, sides: Sequence[Side]) -> NDArray[np.float64]:
    place = {side.letter: k for k, side in enumerate(sides)}
    value_KK = np.full((len(sides), len(sides)), np.nan)
    for pair in found.pairs:
        value = pair.rounds[-1]["spearman"] if pair.rounds else None
        if value is not None:
            i, j = place[pair.a.letter], place[pair.b.letter]
            value_KK[i, j] = value_KK[j, i] = value
    return value_KK


def _between(found: Gathered) -> Markup | None:
    """Means over the pairs within an arm, and between two."""
    if len(found.agreement.by_arms) < 2:
        return None
    arms = {arm.number: arm for arm in found.arms}
    rows: list[list[Child]] = []
    for one in found.agreement.by_arms:
        a, b = arms[one.a], arms[one.b]
        name = arm_name(a)
        if a is not b:
            name = element("span", mark(a), a.name, " and ", mark(b), b.name, class_="named")
        what = "other seeds of it" if a is b else "the other"
        rows.append([name, what, *_cells(one.others), *_cells(one.same_seed)])
    several = "other seeds: " if any(x.same_seed.pairs for x in found.agreement.by_arms) else ""
    heads = ["", "with"] + [
        f"{which}{name}"
        for which in (several, "same seed: ")
        for name in ("pairs", "Jaccard", "by lot", "Spearman")
    ]
    shown = [k for k in range(len(heads)) if k < 2 or any(row[k] != "–" for row in rows)]
    return joined(
        element("h3", "Within arms, and between"),
        about(
            "Means over pairs. By lot: the Jaccard index of draws by lot that are as large; what",
            "keeps everything agrees with itself for that alone. Two arms that keep equally many",
            "keep other samples if pairs of both agree less than pairs of each; where they do not",
            "keep equally many, hold each index against its value by lot.",
            "Runs of one seed have first weights in common, and agree more for that."
            if several and same_start(found.arm_config)
            else "",
        ),
        table([heads[k] for k in shown], [[row[k] for k in shown] for row in rows], "names two"),
    )


def _cells(found: Means) -> list[Child]:
    numbers = (found.jaccard, found.jaccard_by_lot, found.spearman)
    return [str(found.pairs or "–"), *(number(value, ".3f") for value in numbers)]
