"""The first section: the run in a paragraph, its main numbers, its rounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from selffilter.reporting.found import Found
from selffilter.reporting.markup import Markup, element, joined
from selffilter.reporting.parts import number, table
from selffilter.reporting.story import figures, main_panel, story


def glance(found: Found) -> Markup:
    """The run in a paragraph, its main numbers, its rounds."""
    cards = [
        element(
            "div",
            element("dt", what),
            element("dd", element("b", value), element("small", against)),
        )
        for value, what, against in figures(found)
    ]
    return joined(
        element("p", story(found), class_="story"),
        element("dl", cards, class_="figures"),
        _rounds_table(found),
        _account(found),
        element("ul", [element("li", note) for note in found.notes], class_="notes")
        if found.notes
        else None,
    )


def _rounds_table(found: Found) -> Markup | None:
    panel = main_panel(found)
    measured = {} if panel is None else {int(x): y for x, y in panel.lines[0].points}
    columns: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("round", lambda s: str(s["round"])),
        ("samples", lambda s: number(s.get("samples_seen"), ",")),
        ("loss", lambda s: number(s.get("loss"), ".2f")),
        ("selected", lambda s: number(s.get("selected"), ",")),
        ("confident", lambda s: number(s.get("confident"), ",")),
        ("by lot", lambda s: number(s.get("diverse"), ",")),
        ("threshold", lambda s: number(s.get("threshold"), "#.3g")),
        ("precision", lambda s: number(s.get("precision"), ".3f")),
        ("AUC", lambda s: number(s.get("auc"), ".3f")),
        ("overlap", lambda s: number(s.get("overlap"), ".3f")),
        ("cue, sd", _cue),
    ]
    if panel is not None:
        name = f"{panel.lines[0].name}, %"
        columns.insert(3, (name, lambda s: number(measured.get(s.get("samples_seen", -1)), ".1f")))
    rows = [[cell(summary) for _, cell in columns] for summary in found.summaries]
    if not rows:
        return None
    shown = [k for k in range(len(columns)) if any(row[k] != "–" for row in rows)]
    return table([columns[k][0] for k in shown], [[row[k] for k in shown] for row in rows])


def _cue(summary: dict[str, Any]) -> str:
    if summary.get("cue_sd") is None:
        return "–"
    return f"{summary['cue_sd']:+.2f} ± {summary.get('cue_sd_error') or 0:.2f}".replace("-", "−")


_ACCOUNT_WORDS = {
    "base_scored": "in the base, scored",
    "base_not_scored": "in the base, not scored",
    "probe": "held out as the probe",
    "outside": "outside pool.subset",
}


def _account(found: Found) -> Markup | None:
    """Say where every row is."""
    if not found.selections:
        return None
    account = found.selections[-1]["account"]
    parts = [
        f"{count:,} {_ACCOUNT_WORDS.get(name, name.replace('_', ' '))}"
        for name, count in account.items()
        if name != "indexed" and count
    ]
    told = f"{account['indexed']:,} rows indexed = {' + '.join(parts)}."
    return element("p", told, class_="about")
