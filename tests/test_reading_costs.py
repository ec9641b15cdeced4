"""When materialising pays: checked against reading simulated row by row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selffilter.config import load_config
from selffilter.planning import outlook
from selffilter.pool.coalesce import coalesce
from selffilter.pool.facts import PoolFacts, pool_facts
from selffilter.reading_costs import (
    TrainingSet,
    break_even_passes,
    extra_bytes,
    materialising_advice,
    training_sets,
)

FAR = PoolFacts(rows=100_000_000, sample_bytes=4000.0, is_far=True)


def config_with(*words):
    base = ("pool.shards=[s3://bucket/pool]", "rounds.samples_seen=1000000", "pool.cache_gb=1")
    return load_config(None, [*base, "train.global_batch_size=100", *words])


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("request_bytes", [0, 3000, 4000, 8192, 40_000])
def test_extra_bytes_are_those_of_reading_a_random_selection(share, request_bytes):
    size, count = 4000, 200_000
    rows = np.flatnonzero(np.random.default_rng(0).random(count) < share)
    ranges = coalesce(rows * size, np.full(len(rows), size), request_bytes, split_bytes=1 << 60)
    read = (ranges.end_R - ranges.start_R).sum() + request_bytes * len(ranges.start_R)
    simulated = read / len(rows) - size
    assert extra_bytes(share, size, request_bytes) == pytest.approx(simulated, rel=0.05, abs=30)


def cost_in_place(passes, share, request_bytes):
    return passes * (FAR.sample_bytes + extra_bytes(share, FAR.sample_bytes, request_bytes))


def cost_materialised(passes, share, request_bytes):
    return cost_in_place(1, share, request_bytes) + (1 + passes) * FAR.sample_bytes


@given(st.floats(0.001, 0.99), st.integers(1, 100_000))
def test_at_break_even_both_ways_cost_the_same(share, request_bytes):
    passes = break_even_passes(share, FAR, request_bytes, cache_bytes=0)
    for factor, sign in ((0.99, -1), (1.0, 0), (1.01, 1)):
        place = cost_in_place(factor * passes, share, request_bytes)
        shards = cost_materialised(factor * passes, share, request_bytes)
        assert np.sign(round((place - shards) / shards, 9)) == sign


def test_it_never_pays_where_nothing_is_saved():
    assert break_even_passes(0.1, FAR, 8192, 0) < np.inf
    near = PoolFacts(FAR.rows, FAR.sample_bytes, is_far=False)
    assert break_even_passes(0.1, near, 8192, 0) == np.inf
    assert break_even_passes(1.0, FAR, 8192, 0) == np.inf  # nothing to leave out
    assert break_even_passes(0.1, FAR, 0, 0) == np.inf  # requests cost nothing
    selection = 0.1 * FAR.rows * FAR.sample_bytes
    assert break_even_passes(0.1, FAR, 8192, cache_bytes=selection) == np.inf
    assert break_even_passes(0.1, FAR, 8192, cache_bytes=selection - 1) < np.inf


def test_a_set_is_what_rounds_train_on_until_others_are_selected():
    loop = config_with("rounds.count=4", "select.keep_fraction=0.2", "select.diverse_fraction=0")
    sets = training_sets(loop, 10_000)
    assert [s.first_round for s in sets] == [0, 1, 2, 3]
    planned = outlook(loop, 10_000, 10_000, 1.0, 1).rounds
    assert [s.passes for s in sets] == [row["consumed_per_row"] for row in planned]
    assert [s.rows for s in sets] == [row["rows"] for row in planned]


@pytest.mark.parametrize(
    ("words", "first_rounds"),
    [
        (["score.rescore=once", "select.diverse_fraction=0"], [0, 1]),
        (["score.rescore=once", "select.diverse_fraction=0.1"], [0, 1, 2, 3]),
        (["score.rescore=each_round", "select.diverse_fraction=0"], [0, 1, 2, 3]),
        (["score.signal=given", "score.given_scores=x", "select.diverse_fraction=0"], [0, 1]),
        (
            ["score.rescore=once", "select.diverse_fraction=0", "select.keep_fraction=[.2,.2,.4]"],
            [0, 1, 3],
        ),
        (["select.keep_fraction=0", "select.diverse_fraction=1"], [0]),
        (["select.keep_fraction=0", "select.diverse_fraction=0.5"], [0, 1, 2, 3]),
    ],
)
def test_rounds_that_keep_to_their_rows_are_one_set(words, first_rounds):
    config = config_with("rounds.count=4", "select.keep_fraction=0.2", *words)
    sets = training_sets(config, 10_000)
    assert [s.first_round for s in sets] == first_rounds
    consumed = sum(s.passes * s.rows for s in sets)
    assert consumed == pytest.approx(1_000_000)


def test_the_advice_says_what_for_why_and_how():
    config = config_with("name=here")
    least = break_even_passes(0.1, FAR, 8192, 1e9)
    rows = FAR.rows // 10
    assert materialising_advice(config, [TrainingSet(2, rows, 0.99 * least)], FAR) is None
    few, many = TrainingSet(2, rows, 1.01 * least), TrainingSet(3, rows, 20.0)
    said = materialising_advice(config, [few, many], FAR)
    assert "the selection of round 2 (10% of the pool, 40.0 GB) is read 20.0 times" in said
    assert f"from {least:.1f} passes on" in said
    assert "selffilter materialize runs/here OUT --round 2" in said
    whole = TrainingSet(0, 95_000_000, 1e6)
    assert materialising_advice(config, [whole], FAR) is None  # there is nothing to choose from it
    subset = config_with("pool.subset=some.npy")
    said = materialising_advice(subset, [TrainingSet(0, rows, 20.0)], FAR)
    assert "selffilter materialize some.npy OUT --shards …" in said


def test_the_facts_are_the_pools(tiny_pool):
    places = [tiny_pool.places(shard) for shard in range(tiny_pool.shards)]
    total = sum(p[m][1].sum() for p in places for m in ("image", "caption"))
    assert pool_facts(tiny_pool) == PoolFacts(8, pytest.approx(total / 8), is_far=False)
