"""Whom each arm favours: the groups where arms differ most."""

from __future__ import annotations

from collections.abc import Sequence

from selffilter.comparing.arms import Arm
from selffilter.comparing.favours import Favours
from selffilter.comparing.gather import Gathered
from selffilter.comparing.page.named import about, arm_key
from selffilter.plain_text import clipped
from selffilter.reporting.marks import colour_of, kind_of, marker
from selffilter.reporting.markup import Child, Markup, element, joined
from selffilter.reporting.rate_charts import GroupFrame

_LINE = 9.0
_MOST_ARMS = 8


def groups(found: Gathered) -> Markup | None:
    """How often groups are selected by each arm; None if no grouping is watched by several."""
    if not found.favours:
        return None
    arms = [arm for arm in found.arms if arm.is_runs][:_MOST_ARMS]
    charts = [
        element(
            "figure",
            element("h3", clipped(favours.grouping, 60)),
            rates(favours, arms),
            element("p", f"the {len(favours.shown)} that differ most of {favours.groups:,}",
                    class_="about")
            if favours.groups > len(favours.shown)
            else None,
        )
        for favours in found.favours
    ]  # fmt: skip
    told = [
        "Share of a group’s rows that is selected, relative to the average row of the same run;",
        "1×: as often as the average. The groups in which two arms differ most for their size.",
    ]
    if any(len(arm.sides) > 1 for arm in arms):
        told.append("Marks: means over seeds; bars: one standard deviation.")
    return joined(about(*told), arm_key(arms), element("div", charts, class_="charts"))


def rates(favours: Favours, arms: Sequence[Arm]) -> Markup:
    """Draw the groups of a grouping, an arm a line in each."""
    ends = [
        one.mean + (one.sd if one.seeds > 1 else 0.0)
        for group in favours.shown
        for one in group.rates.values()
    ]
    highest = max(1.3, min(3.0, 1.1 * max(ends)))
    sizes = [(group.name, group.rows) for group in favours.shown]
    frame = GroupFrame.of(sizes, highest, max(21.0, _LINE * len(arms) + 9.0))
    drawn: list[Child] = []
    words = []
    for place, group in enumerate(favours.shown):
        for line, arm in enumerate(arms):
            if (one := group.rates.get(arm.number)) is None:
                continue
            y = frame.y(place) + _LINE * (line - (len(arms) - 1) / 2)
            kind = kind_of(arm.number)
            if one.seeds > 1:
                drawn.append(frame.bar(one.mean - one.sd, one.mean + one.sd, y, colour_of(kind)))
            drawn.append(marker(kind, frame.x(min(one.mean, highest)), y, 1.15))
            words.append(f"{group.name} {arm.name} {one.mean:.2f}")
    told = f"selected, relative to the average row, by {favours.grouping}: {', '.join(words)}"
    return frame.chart(told, drawn)
