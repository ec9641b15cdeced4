"""When it pays to write what is trained on as shards of its own. Pure arithmetic.

Assumptions, all of them in units of bytes read:

- Rows are selected independently of where they stand. A request costs `request_bytes` (the
  config's ``pool.request_bytes``), and parts of a shard that are nearer than that are read as one.
- Reading in place, a pass reads the selection and the gaps between, and pays for its requests.
- Materialising reads the selection once in this way and writes it once (a byte written costs as
  much as one read). A pass over the new shards reads the selection alone, in large requests.
- What fits into the node's cache is read from far once, and the passes after that cost nothing.
- On a near disk a row costs about the same wherever it stands.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import NamedTuple

from selffilter.config import Config
from selffilter.planning import round_steps, scores_from, selected_share
from selffilter.pool.facts import PoolFacts


class TrainingSet(NamedTuple):
    """Rows that are trained on until others are selected.

    Attributes:
        first_round: The first round that trains on them.
        rows: How many there are.
        passes: Times that a row is trained on, over all rounds that keep to these rows.
    """

    first_round: int
    rows: int
    passes: float


def training_sets(config: Config, base_rows: int) -> list[TrainingSet]:
    """Return what the rounds of a run train on; rounds that train on the same rows are one set."""
    sets: list[TrainingSet] = []
    batch = config.train.global_batch_size
    for steps in round_steps(config):
        share = selected_share(config, steps.round - 1) if steps.round else 1.0
        rows = max(1, round(share * base_rows))
        passes = steps.steps * batch / rows
        if sets and _trains_on_the_same(config, steps.round):
            before = sets.pop()
            sets.append(before._replace(passes=before.passes + passes))
        else:
            sets.append(TrainingSet(steps.round, rows, passes))
    return sets


def _trains_on_the_same(config: Config, round_: int) -> bool:
    """Whether a round trains on the rows of the round before."""
    keep, diverse = config.select.keep, config.select.diverse
    now = (keep(round_ - 1), diverse(round_ - 1))
    before = (0.0, 1.0) if round_ == 1 else (keep(round_ - 2), diverse(round_ - 2))
    if now != before:
        return False
    drawn_anew = 0 < now[1] < 1
    scored_anew = now[0] > 0 and scores_from(config, round_ - 1) == "model"
    return not drawn_anew and not scored_anew


def extra_bytes(share: float, sample_bytes: float, request_bytes: float) -> float:
    """Return what reading a selected sample in place costs beyond its own bytes.

    Args:
        share: Of the pool's rows that are selected, in (0, 1].
        sample_bytes: Of a sample.
        request_bytes: What a request is worth.
    """
    # Selected rows with at most so many others between them are read as one.
    bridged = int(request_bytes // sample_bytes)
    skip = 1 - share
    requests = skip ** (bridged + 1)
    # Sum of j · share · skip^j over j = 1 … bridged, the expected gap that is read along.
    gap = skip * (1 - (bridged + 1) * skip**bridged + bridged * skip ** (bridged + 1)) / share
    return requests * request_bytes + gap * sample_bytes


def break_even_passes(
    share: float, pool: PoolFacts, request_bytes: float, cache_bytes: float
) -> float:
    """Return from how many passes on materialising a selection is cheaper than reading in place.

    P passes in place cost P · (b + e) a sample of b bytes with e extra ones; materialising costs
    (b + e) + b, and each pass after it b: the same at P = 1 + 2b / e.

    Args:
        share: Of the pool's rows that are selected, in (0, 1].
        pool: The pool.
        request_bytes: See this module's head.
        cache_bytes: Of the node's cache.

    Returns:
        Infinity where it never is.
    """
    extra = extra_bytes(share, pool.sample_bytes, request_bytes)
    if not pool.is_far or extra <= 0 or share * pool.rows * pool.sample_bytes <= cache_bytes:
        return inf
    return 1 + 2 * pool.sample_bytes / extra


def materialising_advice(
    config: Config, sets: Iterable[TrainingSet], pool: PoolFacts
) -> str | None:
    """Say for which training set of a run materialising would pay most, and why; None if for none.

    Args:
        config: The run.
        sets: Some of its training sets.
        pool: The pool.
    """
    found: tuple[float, str] | None = None
    for rows in sets:
        share = min(1.0, rows.rows / pool.rows)
        request, cache = config.pool.request_bytes, config.pool.cache_gb * 1e9
        least = break_even_passes(share, pool, request, cache)
        whole_pool = rows.first_round == 0 and config.pool.subset is None
        if whole_pool or rows.passes <= least:
            continue
        size = rows.rows * pool.sample_bytes
        extra = rows.rows * extra_bytes(share, pool.sample_bytes, request)
        saved = (rows.passes - 1) * extra - 2 * size
        if found is None or saved > found[0]:
            found = saved, _sentence(config, rows, share, size, extra, least)
    return None if found is None else found[1]


def _sentence(
    config: Config, rows: TrainingSet, share: float, size: float, extra: float, least: float
) -> str:
    if rows.first_round:
        what = f"the selection of round {rows.first_round - 1}"
        command = f"selffilter materialize {config.run_dir} OUT --round {rows.first_round - 1}"
    else:
        what = "pool.subset"
        command = f"selffilter materialize {config.pool.subset} OUT --shards …"
    return (
        f"materialising would pay: {what} ({share:.0%} of the pool, {size / 1e9:,.1f} GB) is read "
        f"{rows.passes:.1f} times from far, each time with gaps and requests worth another "
        f"{extra / 1e9:,.1f} GB. A run that trains on shards of its own is cheaper from "
        f"{least:.1f} passes on:  {command}"
    )
