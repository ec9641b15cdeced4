"""A sample on the page: its picture, its caption, its score, and its way through the rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence

from selffilter.plain_text import clipped
from selffilter.pool.uids import to_hex
from selffilter.reporting.axes import signed
from selffilter.reporting.fates import CONFIDENT, DIVERSE, NOT_BASE
from selffilter.reporting.found import Found
from selffilter.reporting.markup import Child, Markup, element
from selffilter.reporting.sheets import Sheet
from selffilter.reporting.thumbnails import Tile

_WIDTH, _HEIGHT, _EDGE = 96.0, 26.0, 4.0
_MOST_MARKS = 12
_WORDS = {NOT_BASE: "not in the base", 0: "dropped", CONFIDENT: "confident", DIVERSE: "by lot"}
_TRUTH = {1: ("✓", "right"), 0: ("✗", "planted")}


def contact_sheet(found: Found, sheet: Sheet) -> Markup:
    """Return a sheet with its heading."""
    assert found.drawn is not None
    among = f"{sheet.among:,}" + (f" of {len(found.drawn.rows_S):,} followed" * found.drawn.sampled)
    about = [f"{sheet.note} · {among}"]
    if sheet.right_share is not None:
        about.append(f" · {sheet.right_share:.0%} right pairs")
    return sheet_of(sheet.title, about, [tile(found, int(place)) for place in sheet.chosen])


def sheet_of(title: Child, about: Child, tiles: Sequence[Markup]) -> Markup:
    """Return samples below a heading."""
    return element(
        "section",
        element("h3", title),
        element("p", about, class_="about"),
        element("div", tiles, class_="tiles") if tiles else element("p", "none", class_="about"),
        class_="sheet",
    )


def tile(found: Found, place: int) -> Markup:
    """Return one sample.

    Args:
        found: What was found out.
        place: Of its row in `Drawn.rows_S`.
    """
    drawn = found.drawn
    assert drawn is not None
    row = int(drawn.rows_S[place])
    uid = to_hex(found.run.pool.uids_of(drawn.rows_S[place : place + 1]))[0]
    return sample(
        found.tiles.get(row),
        row,
        written(float(drawn.score_RS[-1, place])),
        spark(found, place),
        f"selffilter why {clipped(found.run.store.root.name, 80)} {uid}",
        None if found.clean_S is None else int(found.clean_S[place]),
    )


def sample(
    shown: Tile | None, row: int, score: Child, way: Markup | None, command: str,
    clean: int | None = None,
) -> Markup:  # fmt: skip
    """Return one sample with its caption, score and what else is known of it.

    Args:
        shown: Picture and caption; None: they could not be read.
        row: Its number in the pool.
        score: What it is scored.
        way: A drawing of what became of it.
        command: What asks why.
        clean: 1: a right pair, 0: a planted one; else it is not known.
    """
    truth = None if clean is None else _TRUTH.get(clean)
    picture: Markup = element("div", "no picture", class_="none")
    if shown is not None and shown.picture is not None:
        # The caption stands below: said twice it would be read twice.
        picture = element("img", src=shown.picture, width=shown.width, height=shown.height, alt="")
    caption = "" if shown is None else shown.caption
    return element(
        "figure",
        element("div", picture, class_="frame"),
        element("figcaption", caption or "—", dir="auto", title=caption or None),
        element(
            "p",
            element("span", score, class_="score"),
            None
            if truth is None
            else element(
                "span", truth[0], element("i", f" {truth[1]}"), class_=f"truth {truth[1]}"
            ),
            class_="facts",
        ),
        way,
        element(
            "details",
            element("summary", f"row {row:,}"),
            element("p", caption, dir="auto") if caption else None,
            element("code", command),
        ),
        class_="tile" + ("" if truth is None else f" {truth[1]}"),
    )


def written(score: float) -> str:
    """Write a score."""
    if not math.isfinite(score):
        return "no score"
    return signed(score, ".3f" if abs(score) < 10 else ".4g")


def spark(found: Found, place: int) -> Markup | None:
    """Draw where a row stood in each round, and what was decided of it."""
    drawn = found.drawn
    assert drawn is not None
    rounds = drawn.rounds
    step = (_WIDTH - 2 * _EDGE) / max(1, len(rounds) - 1)
    quantile_RS = found.quantile_RS
    points, marks, words = list[str](), list[Child](), list[str]()
    for number, round_ in enumerate(rounds):
        quantile, fate = float(quantile_RS[number, place]), int(drawn.fate_RS[number, place])
        x = _EDGE + step * number
        y = _HEIGHT / 2
        told = f"round {round_}: {_WORDS[fate]}"
        if math.isfinite(quantile):
            y = _HEIGHT - _EDGE - quantile * (_HEIGHT - 2 * _EDGE)
            told += f", better than {quantile:.0%}"
            points.append(f"{x:.1f} {y:.1f}")
        words.append(told)
        if len(rounds) <= _MOST_MARKS:
            marks.append(_mark(fate, x, y))
    line = element("path", d="M" + "L".join(points), class_="way") if len(points) > 1 else None
    return element(
        "svg", element("title", "; ".join(words)), line, marks,
        viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}", class_="spark", role="img",
    )  # fmt: skip


def _mark(fate: int, x: float, y: float) -> Markup:
    if fate == CONFIDENT:
        return element("circle", cx=x, cy=y, r=3.0, class_="confident")
    if fate == DIVERSE:
        return element("rect", x=x - 2.6, y=y - 2.6, width=5.2, height=5.2, class_="diverse")
    return element("circle", cx=x, cy=y, r=2.2, class_="out")
