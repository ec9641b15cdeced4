"""The run in one paragraph, and in a few large figures."""

from __future__ import annotations

from typing import Any

from selffilter.plain_text import clipped
from selffilter.planning import round_steps
from selffilter.reporting.found import Found
from selffilter.reporting.progress_of_run import ZERO_SHOT

Figure = tuple[str, str, str]
"""A number, what it is, and what it is to be held against."""


def story(found: Found) -> str:
    """Tell the run in a few sentences."""
    return " ".join(
        sentence
        for sentence in (_what(found), _kept(found), _truth(found), _quality(found), _cost(found))
        if sentence
    )


def state(found: Found) -> str:
    """Say how far the run is."""
    if found.compute is not None:
        return "finished"
    following = found.run.next_stage()
    if following is None:
        return "not finished: the export is to come"
    return f"not finished: {following[1]} of round {following[0]} is to come"


def main_panel(found: Found) -> Any:
    """Return the first evaluation's panel; None: there is none."""
    return next((panel for panel in found.progress.panels if panel.note == ZERO_SHOT), None)


def figures(found: Found) -> list[Figure]:
    """Return the numbers that say most, the most important first."""
    out: list[Figure] = []
    if found.selections:
        last, first = found.selections[-1], found.selections[0]
        base = max(1, last["base"])
        share = f"{last['selected'] / base:.0%} of {last['base']:,} in the base"
        out.append((f"{last['selected']:,}", "samples kept", share))
        if last.get("precision") is not None and last["confident"]:
            against = f"{first['precision']:.1%} in round {first['round']}"
            if (pool := _pool_right(found)) is not None:
                against = f"{pool:.1%} in the pool"
            out.append((f"{last['precision']:.1%}", "right pairs among the confident", against))
        if last.get("auc") is not None:
            was = f"{first['auc']:.3f} in round {first['round']}"
            out.append((f"{last['auc']:.3f}", "AUC of the scores", was))
        if last.get("retention") is not None:
            stay = "of the confident rows stay"
            out.append((f"{last['retention']:.1%}", stay, f"from round {last['round'] - 1} on"))
    panel = main_panel(found)
    if panel is not None:
        line = panel.lines[0]
        before, after = line.points[0][1], line.points[-1][1]
        what = f"{panel.title.removesuffix(', %')}: {line.name}"
        out.append((f"{after:.1f}%", clipped(what, 60), f"{before:.1f}% at the beginning"))
    seen = _seen(found)
    out.append((f"{seen:,}", "samples trained on", f"of {found.progress.samples:,}"))
    return out


def _seen(found: Found) -> int:
    return max((int(s["samples_seen"]) for s in found.summaries if "samples_seen" in s), default=0)


def _pool_right(found: Found) -> float | None:
    if found.clean_S is None or found.drawn is None:
        return None
    known = found.clean_S[found.drawn.base_S]
    known = known[known >= 0]
    return float(known.mean()) if len(known) else None


def _what(found: Found) -> str:
    config = found.run.config
    model = clipped(config.model.name.rsplit("/", 1)[-1].removesuffix(".json"), 60)
    began = "from scratch"
    if config.model.pretrained:
        began = f"from {clipped(str(config.model.pretrained).rsplit('/', 1)[-1], 60)}"
    seen, total = _seen(found), found.progress.samples
    rounds = len(round_steps(config))
    of = f"{seen:,} samples" if seen == total else f"{seen:,} of {total:,} samples"
    pool = ""
    if found.selections:
        account = found.selections[-1]["account"]
        pool = f" on a pool of {account['indexed']:,} pairs"
        if account.get("probe"):
            pool += f", {account['probe']:,} of them held out as a probe"
    return f"A {model} has been trained {began} for {of} in {_rounds(rounds)}{pool}."


def _kept(found: Found) -> str:
    if not found.selections:
        return "Nothing has been selected yet."
    last = found.selections[-1]
    share = last["selected"] / max(1, last["base"])
    told = f"The selection of round {last['round']} keeps {last['selected']:,} rows, {share:.0%} "
    told += "of the base: "
    if last["confident"]:
        told += f"{last['confident']:,} for their score by {_signal(found)} and "
    told += f"{last['diverse']:,} by lot."
    if last.get("overlap") is not None and last["confident"]:
        told += f" It shares {last['overlap']:.0%} of its confident rows with the round before"
        told += " (Jaccard)."
    alarms = sum(len(summary.get("alarms") or []) for summary in found.selections)
    if alarms:
        told += f" The guard raised {alarms} alarm{'s' * (alarms > 1)}."
    return told


def _truth(found: Found) -> str:
    if not found.selections:
        return ""
    first, last = found.selections[0], found.selections[-1]
    if last.get("precision") is None or not last["confident"]:
        return ""
    told = f"Of its confident rows {last['precision']:.1%} are right pairs"
    if (pool := _pool_right(found)) is not None:
        told += f", of the base {pool:.1%}"
    if last.get("auc") is not None and first.get("auc") is not None and first is not last:
        told += f"; the AUC of the scores went from {first['auc']:.3f} to {last['auc']:.3f}"
    return told + "."


def _quality(found: Found) -> str:
    panel = main_panel(found)
    if panel is None or len(panel.lines[0].points) < 2:
        return ""
    line = panel.lines[0]
    name = clipped(panel.title.removesuffix(", %"), 60)
    before, after = line.points[0][1], line.points[-1][1]
    return f"Zero-shot {line.name} on {name} went from {before:.1f} to {after:.1f}%."


def _cost(found: Found) -> str:
    spent = found.compute
    if spent is None or not spent["training_flops"]:
        return ""
    if not spent["scoring_passes"]:
        return "No model has scored."
    share = spent["scoring_flops"] / spent["training_flops"]
    return f"Scoring has cost {share:.0%} of what training has."


def _signal(found: Found) -> str:
    return str(found.selections[-1].get("signal", found.run.config.score.signal))


def _rounds(count: int) -> str:
    return "one round" if count == 1 else f"{count} rounds"
