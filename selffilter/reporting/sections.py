"""The sections of the page, each from what was found out. A section without content is left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from selffilter.plain_text import clipped
from selffilter.reporting.alluvial import alluvial
from selffilter.reporting.calibration_chart import reliability_diagram
from selffilter.reporting.charts import curves, distribution, key
from selffilter.reporting.costs import compute, config
from selffilter.reporting.fates import CONFIDENT, DIVERSE, DROPPED
from selffilter.reporting.found import Found
from selffilter.reporting.glance import glance
from selffilter.reporting.map_chart import dots
from selffilter.reporting.markup import Markup, element, joined
from selffilter.reporting.rate_charts import group_rates, word_rates
from selffilter.reporting.shapes import Shape
from selffilter.reporting.tiles import contact_sheet

_MOST_PANELS = 6
_OUTCOME = (("confident", "kept for its score"), ("diverse", "kept by lot"), ("dropped", "dropped"))


def sections(found: Found) -> list[tuple[str, str, Markup]]:
    """Return name, for links, title and content of each section that has some."""
    made: list[tuple[str, str, Callable[[Found], Markup | None]]] = [
        ("Glance", "At a glance", glance),
        ("Samples", "What it keeps and drops", samples),
        ("Curves", "On the way", on_the_way),
        ("Scores", "Scores by round", scores),
        ("Flow", "Between kept and dropped", flow),
        ("Map", "The pool in a plane", plane),
        ("Words", "Words gained and lost", words),
        ("Groups", "Whom it favours", groups),
        ("Compute", "Compute", compute),
        ("Config", "Config and environment", config),
    ]
    return [
        (name, title, content) for name, title, make in made if (content := make(found)) is not None
    ]


def samples(found: Found) -> Markup | None:
    """Contact sheets in pairs."""
    if not found.sheets:
        return None
    assert found.drawn is not None
    first, last = found.drawn.rounds[0], found.drawn.rounds[-1]
    legend = key([*_OUTCOME[:2], ("out", "dropped")])
    told = f"Below each caption: what became of it from round {first} to round {last}."
    if np.isfinite(found.drawn.score_RS[-1]).any():
        told = (
            f"Below each caption: its score in round {last}, and where it stood among all from "
            f"round {first} to round {last} (top: the best)."
        )
    return joined(
        element("p", told, class_="about"),
        legend,
        _truth_filter() if found.clean_S is not None else None,
        [
            element("div", [contact_sheet(found, s) for s in pair], class_="pair")
            for pair in found.sheets
        ],
    )


def on_the_way(found: Found) -> Markup | None:
    """Curves over the samples seen."""
    progress = found.progress
    if not progress.panels:
        return None
    charts = [
        element(
            "figure",
            element("h3", clipped(panel.title, 80)),
            _line_key(panel.title, [line.name for line in panel.lines]),
            curves(panel, progress),
            element("p", panel.note, class_="about"),
        )
        for panel in progress.panels
    ]
    told = "Over samples seen. Vertical lines: the end of a round’s training, with its number."
    return joined(element("p", told, class_="about"), element("div", charts, class_="charts rows"))


def scores(found: Found) -> Markup | None:
    """Distributions by round, by what was decided and, where it is known, by truth."""
    if not found.shapes:
        return None
    shown = _some(found.shapes)
    parts = [
        element("p", f"{shown[0].signal}; the dashed line is the lowest confident score."
                if shown[-1].threshold is not None else shown[0].signal, class_="about"),
        key(_OUTCOME),
        element("div", [_outcome_shape(shape) for shape in shown], class_="charts small"),
    ]  # fmt: skip
    if shown[0].right_B is not None:
        assert found.drawn is not None
        among = " Of the followed rows." if found.drawn.sampled else ""
        parts += [
            element("h3", "Right pairs and planted ones"),
            element("p", f"Neither scoring nor selecting has seen which is which.{among}",
                    class_="about"),
            key([("right", "right pairs"), ("planted", "planted")]),
            element("div", [_truth_shape(shape) for shape in shown], class_="charts small"),
        ]  # fmt: skip
    if fitted := _some([shape for shape in found.shapes if shape.reliability is not None]):
        parts += [
            element("h3", "How far two Gaussians could be believed"),
            element("p", "Fitted to the scores of the base, the upper one for right pairs: the "
                    "share of right pairs among rows that were given a probability, with two "
                    "standard errors; dashed: probabilities that are right.", class_="about"),
            element("div", [_reliability(shape) for shape in fitted], class_="charts small"),
        ]  # fmt: skip
    return joined(parts)


def flow(found: Found) -> Markup | None:
    """How rows moved between kept and dropped."""
    if found.flow is None:
        return None
    return joined(
        element(
            "p",
            "All rows of the base, from the top: kept for their score, kept by lot, dropped. The "
            "bands have the colour of what a row was before.",
            class_="about",
        ),
        key(_OUTCOME),
        element("div", alluvial(found.flow), class_="wide"),
    )


def plane(found: Found) -> Markup | None:
    """The pool in a plane, with what is kept."""
    if found.plane is None or found.drawn is None:
        return None
    at, drawn = found.plane, found.drawn
    rounds = _some(list(range(len(drawn.rounds))), 3)
    if at.of_embeddings:
        told = (
            f"{len(at.chosen_P):,} rows of the base along the two principal axes of the last "
            f"round’s image embeddings ({at.explained:.0%} of the variance), half spread by rank. "
            "Every panel has the same rows at the same places."
        )
        labels = ("", "")
    else:
        told = (
            f"{len(at.chosen_P):,} rows of the base by their place among all: to the right in "
            f"round {drawn.rounds[0]}, upwards in round {drawn.rounds[-1]}. The run has kept no "
            "embeddings (score.keep_embeddings=true), by which rows that look alike would lie "
            "together."
        )
        labels = (f"round {drawn.rounds[0]}", f"round {drawn.rounds[-1]}")
    panels = []
    for place in rounds:
        fate = drawn.fate_RS[place, at.chosen_P]
        layers = [
            ("dropped", fate <= DROPPED),
            ("confident", fate == CONFIDENT),
            ("diverse", fate == DIVERSE),
        ]
        title = f"kept in round {drawn.rounds[place]}"
        panels.append(
            element("figure", element("h3", title), dots(title, at.xy_P2, layers, *labels))
        )
    legend = [key(_OUTCOME)]
    if found.clean_S is not None:
        clean = found.clean_S[at.chosen_P]
        layers = [("right", clean == 1), ("planted cross", clean == 0)]
        panels.append(
            element("figure", element("h3", "the truth"), dots("truth", at.xy_P2, layers, *labels))
        )
        legend.append(key([("right", "right pairs"), ("cross", "planted")]))
    return joined(
        element("p", told, class_="about"),
        element("div", legend, class_="keys"),
        element("div", panels, class_="charts maps"),
    )


def words(found: Found) -> Markup | None:
    """Words whose captions are kept more often than others, and less often."""
    if found.words is None or not (found.words.gained or found.words.lost):
        return None
    at = found.words
    assert found.drawn is not None
    rounds = found.drawn.rounds
    told = (
        f"How often captions with a word are kept: dots in round {rounds[-1]}, rings in round "
        f"{rounds[0]}; dashed: captions of any words ({at.last:.0%}). The surest differences of "
        f"{at.tested:,} words, from {at.captions:,} captions"
        + (", a draw." if at.captions < found.selections[-1]["base"] else ".")
    )
    highest = min(1.0, 1.05 * max(max(w.first, w.last) for w in (*at.gained, *at.lost)))
    charts = [
        element("figure", element("h3", title), word_rates(some, at.first, at.last, highest))
        for title, some in (("Kept more often", at.gained), ("Dropped more often", at.lost))
        if some
    ]
    return joined(element("p", told, class_="about"), element("div", charts, class_="charts two"))


def groups(found: Found) -> Markup | None:
    """How often groups are selected."""
    if not found.groupings:
        return None
    charts = []
    for grouping in found.groupings:
        rates = [r for _, first, last, _, _ in grouping.rates for r in (first, last)]
        highest = max(1.3, min(3.0, 1.1 * float(np.nanmax([*rates, 1.0]))))
        more = grouping.groups - len(grouping.rates)
        charts.append(
            element(
                "figure",
                element("h3", clipped(grouping.name, 60)),
                group_rates(grouping.rates, highest, grouping.name),
                element("p", f"the largest of {grouping.groups:,}", class_="about")
                if more
                else None,
            )
        )
    told = (
        "Share of a group’s rows that is selected, relative to the average row: dots in the last "
        "round, with two standard errors, rings in the first. 1×: as often as the average."
    )
    return joined(element("p", told, class_="about"), element("div", charts, class_="charts"))


# --- parts ------------------------------------------------------------------------------------


def _truth_filter() -> Markup:
    """Choices that dim some of the samples; the style does it, no script."""
    choices = (("all", "all samples"), ("right", "right pairs"), ("planted", "planted ones"))
    return element(
        "fieldset",
        element("legend", "Show"),
        [
            element(
                "label",
                element("input", type="radio", name="truth", id=f"only-{k}", checked=k == "all"),
                name,
            )
            for k, name in choices
        ],
        class_="filter",
    )


def _line_key(title: str, names: Sequence[str]) -> Markup:
    """Return a legend of lines; a lone one needs no more than its name, if the title lacks it."""
    kinds = list(dict.fromkeys(names))
    if len(kinds) < 2:
        return element("p", kinds[0] if kinds[0] not in title else None, class_="key")
    return key([(f"line {letter}", name) for letter, name in zip("abc", kinds, strict=False)])


def _outcome_shape(shape: Shape) -> Markup:
    confident = shape.parts.get("confident", np.zeros_like(shape.parts["base"]))
    diverse = shape.parts.get("diverse", np.zeros_like(confident))
    dropped = np.maximum(shape.parts["base"] - confident - diverse, 0)
    return element(
        "figure",
        element("h3", f"round {shape.round}"),
        distribution(
            f"scores of round {shape.round}: {int(confident.sum()):,} confident, "
            f"{int(diverse.sum()):,} by lot, {int(dropped.sum()):,} dropped",
            shape.low,
            shape.high,
            {"confident": confident, "diverse": diverse, "dropped": dropped},
            {},
            threshold=shape.threshold,
        ),
    )


def _truth_shape(shape: Shape) -> Markup:
    assert shape.right_B is not None and shape.planted_B is not None
    return element(
        "figure",
        element("h3", f"round {shape.round}"),
        distribution(
            f"scores of round {shape.round}: {int(shape.right_B.sum()):,} right pairs, "
            f"{int(shape.planted_B.sum()):,} planted",
            shape.low,
            shape.high,
            {"right": shape.right_B},
            {"planted": shape.planted_B},
            threshold=shape.threshold,
        ),
    )


def _reliability(shape: Shape) -> Markup:
    assert shape.reliability is not None
    return element(
        "figure",
        element("h3", f"round {shape.round}"),
        reliability_diagram(f"two Gaussians in round {shape.round}", shape.reliability),
    )


def _some(items: Sequence[Any], most: int = _MOST_PANELS) -> list[Any]:
    """Return the first, the last and some between them."""
    if len(items) <= most:
        return list(items)
    return [items[k] for k in np.linspace(0, len(items) - 1, most).round().astype(int)]
