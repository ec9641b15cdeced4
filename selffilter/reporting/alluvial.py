"""Samples flowing between kept and dropped, as bands from round to round."""

from __future__ import annotations

from selffilter.reporting.axes import chart, label, whole
from selffilter.reporting.flow import FATES, Flow
from selffilter.reporting.markup import Child, Markup, element

_ORDER = (1, 2, 0)
"""From the top: confident, diverse, dropped."""
_BAR, _GAP, _TOP, _FULL = 9.0, 7.0, 22.0, 250.0
_STEP = 130.0


def alluvial(flow: Flow) -> Markup:
    """Draw the fates of the base's rows in each round, and how they moved to the next.

    The height of a band is its number of rows.
    """
    rounds = len(flow.rounds)
    most = max(1, int(flow.count_RF.sum(axis=1).max()))
    scale = _FULL / most
    width = 52.0 + _STEP * max(1, rounds - 1) + 52.0
    height = _TOP + _FULL + 2 * _GAP + 8
    drawn: list[Child] = []
    tops = [_tops(flow, place, scale) for place in range(rounds)]
    for place in range(rounds - 1):
        drawn += _bands(flow, place, scale, tops)
    for place, round_ in enumerate(flow.rounds):
        x = _x(place)
        drawn.append(label(x + _BAR / 2, 11.0, f"round {round_}", "middle", "soft"))
        for fate in _ORDER:
            rows = int(flow.count_RF[place, fate])
            if not rows:
                continue
            y, size = tops[place][fate], rows * scale
            drawn.append(
                element("rect", element("title", f"round {round_}, {FATES[fate]}: {rows:,} rows"),
                        x=x, y=y, width=_BAR, height=max(size, 1.0), class_=FATES[fate])
            )  # fmt: skip
            if size >= 9:
                at, anchor = (x + _BAR + 4, "start") if place == rounds - 1 else (x - 4, "end")
                drawn.append(label(at, y + size / 2 + 3.5, whole(rows), anchor))
    return chart(_in_words(flow), drawn, width=width, height=height)


def _x(place: int) -> float:
    return 46.0 + _STEP * place


def _tops(flow: Flow, place: int, scale: float) -> dict[int, float]:
    found, y = {}, _TOP
    for fate in _ORDER:
        found[fate] = y
        y += int(flow.count_RF[place, fate]) * scale + _GAP
    return found


def _bands(flow: Flow, place: int, scale: float, tops: list[dict[int, float]]) -> list[Markup]:
    x0, x1 = _x(place) + _BAR, _x(place + 1)
    middle = (x0 + x1) / 2
    leaving, arriving = dict(tops[place]), dict(tops[place + 1])
    found = []
    for before in _ORDER:
        for after in _ORDER:
            rows = int(flow.moved_RFF[place, before, after])
            if not rows:
                continue
            size = rows * scale
            a, b = leaving[before], arriving[after]
            leaving[before] += size
            arriving[after] += size
            curve = (
                f"M{x0:.1f} {a:.2f}C{middle:.1f} {a:.2f} {middle:.1f} {b:.2f} {x1:.1f} {b:.2f}"
                f"v{size:.2f}"
                f"C{middle:.1f} {b + size:.2f} {middle:.1f} {a + size:.2f} {x0:.1f} {a + size:.2f}Z"
            )
            what = f"round {flow.rounds[place]} to {flow.rounds[place + 1]}: {rows:,} rows "
            what += f"{FATES[before]} → {FATES[after]}"
            found.append(
                element("path", element("title", what), d=curve, class_=f"band {FATES[before]}")
            )
    return found


def _in_words(flow: Flow) -> str:
    kept = [int(count) for count in flow.count_RF[:, 1:].sum(axis=1)]
    words = ", ".join(f"{n:,} in round {r}" for r, n in zip(flow.rounds, kept, strict=True))
    return f"how samples flow between kept and dropped; kept: {words}"
