"""Tables of an experiment, for people: Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from selffilter.comparing.seeds import FEW_SEEDS, Difference, Spread
from selffilter.experiments.analysis import GapClosed
from selffilter.experiments.comparing import Line


def markdown_table(
    header: Sequence[str], body: Iterable[Sequence[str]], *, right: bool = True
) -> str:
    """Return a Markdown table; all columns but the first are numbers, unless told otherwise."""
    rules = [":--", *(("--:" if right else ":--") for _ in header[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rules, *body))


def results_table(lines: Sequence[Line]) -> str:
    """Return one row a method for one pool, set and metric: what came out, and against what."""
    many = any(line.value.seeds > FEW_SEEDS for line in lines)
    equal_compute = any(line.versus_equal_compute for line in lines)
    header = ["method", "seeds", "mean ± sd %", "− uniform", "95 % (t)"]
    header += ["95 % (bootstrap)"] if many else []
    header += ["− uniform, equal compute"] if equal_compute else []
    header += ["loop ahead by", "gap closed"]
    body = []
    for line in lines:
        row = [line.method, str(line.value.seeds), _spread(line.value)]
        row += [_difference(line.versus_uniform), _interval(line.versus_uniform, "t_interval")]
        row += [_interval(line.versus_uniform, "bootstrap_interval")] if many else []
        row += [_with_t(line.versus_equal_compute)] if equal_compute else []
        row += [_with_t(line.loop_ahead), _gap(line.gap_closed)]
        body.append(row)
    return markdown_table(header, body)


def headline(lines: Sequence[Line], method: str) -> str:
    """Say in one sentence what a method came to; empty if there is nothing to say."""
    found = [line for line in lines if line.method == method and line.versus_uniform]
    if not found:
        return ""
    line = found[0]
    sentence = f"**{method}: {_difference(line.versus_uniform)} points against uniform"
    interval = _interval(line.versus_uniform, "t_interval")
    sentence += "" if interval == "–" else f" (95 % {interval})"
    if line.versus_equal_compute:
        sentence += f", {_difference(line.versus_equal_compute)} at equal compute"
    if line.gap_closed:
        none = line.gap_closed.reason
        closes = f"closes {_gap(line.gap_closed)} of the gap to the oracle"
        sentence += f"; share of the gap to the oracle: {none}" if none else f"; {closes}"
    return f"{sentence}.**"


def overview_table(lines: Sequence[Line]) -> str:
    """Return one row a method and one column a metric, for one pool and set."""
    metrics = list(dict.fromkeys(line.metric for line in lines))
    cells = {(line.method, line.metric): _spread(line.value) for line in lines}
    methods = list(dict.fromkeys(line.method for line in lines))
    body = [[m, *(cells.get((m, metric), "–") for metric in metrics)] for m in methods]
    return markdown_table(["method", *metrics], body)


def costs_table(lines: Sequence[Line]) -> str:
    """Return one row a method: samples, compute, and how clean what it saw was."""
    header = ["method", "samples seen", "training PFLOPs", "scoring", "runs it is made from"]
    header += ["clean share of samples", "last precision", "last AUC"]
    body = []
    for line in lines:
        flops = [f"{line.costs[k] / 1e15:.4g}" for k in _FLOPS]
        data = ["–" if v is None else f"{v:.3f}" for v in line.data.values()]
        body.append([line.method, f"{line.costs['samples_seen']:,.0f}", *flops, *data])
    return markdown_table(header, body)


_FLOPS = ("training_flops", "scoring_flops", "used_flops")


def _spread(value: Spread) -> str:
    sd = "" if math.isnan(value.sd) else f" ± {100 * value.sd:.2f}"
    return f"{100 * value.mean:.2f}{sd}"


def _difference(difference: Difference | None) -> str:
    if difference is None or not difference.seeds:
        return "–"
    return f"{100 * difference.mean:+.2f}"


def _interval(difference: Difference | None, which: str) -> str:
    low, high = getattr(difference, which) if difference else (math.nan, math.nan)
    return "–" if math.isnan(low) else f"{100 * low:+.2f} … {100 * high:+.2f}"


def _with_t(difference: Difference | None) -> str:
    interval = _interval(difference, "t_interval")
    return _difference(difference) + ("" if interval == "–" else f" ({interval})")


def _gap(gap: GapClosed | None) -> str:
    if gap is None:
        return "–"
    if gap.reason:
        return gap.reason
    low, high = gap.bootstrap_interval
    return f"{gap.share:.2f}" + ("" if math.isnan(low) else f" ({low:.2f} … {high:.2f})")
