"""The first section: what is compared, in a paragraph, in large figures, and a line a run."""

from __future__ import annotations

from selffilter.comparing.arm_numbers import plus_minus
from selffilter.comparing.arms import Arm
from selffilter.comparing.gather import Gathered
from selffilter.comparing.page.named import about, arm_name, arm_of, mark, side_name
from selffilter.comparing.sides import Side
from selffilter.plain_text import harmless
from selffilter.reporting.markup import Child, Markup, element, joined
from selffilter.reporting.parts import number, table

_MOST_CARDS = 8


def overview(found: Gathered) -> Markup:
    """What is compared."""
    notes = [element("li", harmless(note)) for note in found.notes]
    asked = next((side.round_asked for side in found.runs), None)
    return joined(
        element("p", story(found), class_="story"),
        _cards(found),
        _sides(found),
        about(
            "Kept and confident are uids of "
            + ("each run’s last selection" if asked is None else f"the selection of round {asked}")
            + "; the other numbers are each run’s last"
            + ("" if asked is None else " up to it")
            + ". An arm is what runs have in common that differ in their seed alone."
        )
        if found.runs
        else None,
        element("ul", notes, class_="notes") if notes else None,
    )


def story(found: Gathered) -> str:
    """Tell in a few sentences what is compared, and what may be made of it."""
    told = (_what(found), _differ(found), _pools(found), _seeds(found), _compute(found))
    return " ".join(sentence for sentence in told if sentence)


def samples_seen(side: Side) -> int | None:
    """Return the samples that a run has been trained on, up to the round that was asked for."""
    return None if side.trained is None else side.trained[1]


def _what(found: Gathered) -> str:
    runs, arms = found.runs, [arm for arm in found.arms if arm.is_runs]
    subsets = len(found.sides) - len(runs)
    files = f"{_count(subsets, 'subset')} without a run" if subsets else ""
    if not runs:
        return f"{files[0].upper()}{files[1:]} {'is' if subsets == 1 else 'are'} compared."
    told = f"{_count(len(runs), 'run')} in {_count(len(arms), 'arm')}"
    told += f" and {files}" if files else ""
    return told[0].upper() + told[1:] + " are compared."


def _differ(found: Gathered) -> str:
    arms = [arm for arm in found.arms if arm.is_runs]
    if len(arms) < 2:
        return ""
    fields = list(found.arm_config)
    if not fields:
        return "The arms’ configs do not differ: they are runs of one seed, made twice."
    if len(fields) <= 3:
        return f"The arms differ in {listed(fields)}."
    return f"The arms differ in {len(fields)} fields of their config."


def _pools(found: Gathered) -> str:
    versions = {side.run.rows_version for side in found.runs if side.run is not None}
    if len(versions) > 1:
        return f"They are over {len(versions)} pools, or versions of one: rows are joined by uid."
    rows = found.agreement.of_pool
    return f"All are over one pool of {rows:,} pairs." if rows and len(found.runs) > 1 else ""


def _seeds(found: Gathered) -> str:
    alone = [arm.name for arm in found.arms if arm.is_runs and len(arm.sides) == 1]
    arms = [arm for arm in found.arms if arm.is_runs]
    if not alone:
        return ""
    if len(alone) == len(arms):
        return (
            "Every arm has one seed, so nothing here has an error bar: how far two runs lie apart "
            "by their seed alone is not known."
        )
    return f"One seed, and so no error bar, {'has' if len(alone) == 1 else 'have'}: " + (
        ", ".join(alone) + "."
    )


def _compute(found: Gathered) -> str:
    seen = {samples_seen(side) for side in found.runs} - {None}
    if not seen or len(found.runs) < 2:
        return ""
    told = "Not all have seen as many samples: what differs may be of that."
    if len(seen) == 1:
        told = f"All have seen {seen.pop():,} samples"
        scoring = {spent.get("scoring_flops") for spent in found.compute.values()}
        if len(found.compute) < len(found.runs) or not all(side.whole for side in found.runs):
            # What scoring has cost is known of whole runs alone.
            told += "."
        elif len(scoring) > 1:
            told += ", but scoring has not cost them the same."
        else:
            told += ", and scoring has cost them the same."
    return told


def _count(n: int, what: str) -> str:
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return f"{words[n] if n < len(words) else n} {what}{'' if n == 1 else 's'}"


def _cards(found: Gathered) -> Markup | None:
    """The first measure of each arm, large."""
    if not found.measures:
        return None
    first = found.measures[0]
    arms = [arm for arm in found.arms if arm.number in first.values][:_MOST_CARDS]
    cards = []
    for arm in arms:
        spread = first.spreads[arm.number]
        seeds = f"mean ± sd, {spread.seeds} seeds" if spread.seeds > 1 else "one seed"
        if arm.number in first.uneven:
            seeds = f"{spread.seeds} seeds, not equally far"
        value = plus_minus(spread, percent=first.percent)
        cards.append(
            element(
                "div",
                element(
                    "dt", arm_name(arm), element("span", f" {first.title}{', %' * first.percent}")
                ),
                element("dd", element("b", value), element("small", seeds)),
            )
        )
    return element("dl", cards, class_="figures")


def _sides(found: Gathered) -> Markup:
    """A line a run or subset."""
    by_letter = arm_of(found.arms)
    measures = found.measures[:4]
    heads: list[Child] = [
        "",
        "arm",
        "seed",
        "rounds",
        "selection of",
        "samples seen",
        "kept",
        "confident",
    ]
    heads += [f"{measure.title}{', %' * measure.percent}" for measure in measures]
    heads += ["alarms", ""]
    rows: list[list[Child]] = []
    for side in found.sides:
        arm = by_letter[side.letter]
        seed = None if side.run is None else side.run.config.seed
        values = [measure.values.get(arm.number, {}).get(seed or 0) for measure in measures]
        rows.append(
            [
                side_name(side, arm),
                arm.name,
                number(seed, "d"),
                _rounds(side),
                "–" if side.trained is None or side.round == side.trained[0] else f"{side.round}",
                number(samples_seen(side), ","),
                f"{len(side.kept):,}",
                f"{len(side.chosen):,}" if side.keeps_by_score else "–",
                *(
                    number(None if v is None else v * (100 if m.percent else 1),
                           ".1f" if m.percent else ".3f")
                    for v, m in zip(values, measures, strict=True)
                ),
                str(len(found.alarms[side.letter])) if side.letter in found.alarms else "–",
                _state(side, found),
            ]
        )  # fmt: skip
    shown = [k for k in range(len(heads)) if k == 0 or any(row[k] not in ("–", "") for row in rows)]
    return table([heads[k] for k in shown], [[row[k] for k in shown] for row in rows], "names two")


def _rounds(side: Side) -> str:
    last = 0 if side.trained is None else side.trained[0]
    return "–" if side.run is None else f"0–{last}" if last else "0"


def _state(side: Side, found: Gathered) -> str:
    if side.run is None:
        return "subset"
    return "" if side.letter in found.compute else "not finished"


def listed(words: list[str]) -> str:
    """Write words with commas, and an "and" before the last."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def called(arms: list[Arm], most: int = 4) -> str:
    """Return a title of arms' names."""
    names = [arm.name for arm in arms]
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return listed(names)


def legend(arms: list[Arm]) -> Markup:
    """Return what stands below the title: each arm with its runs."""
    return element(
        "p",
        [element("span", mark(arm), f"{arm.name}: {arm.letters}") for arm in arms],
        class_="state key",
    )
