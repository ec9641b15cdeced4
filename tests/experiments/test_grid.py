"""The grid: which runs there are, in which order, and what each waits for."""

from __future__ import annotations

from typing import Any

import pytest

from selffilter.errors import UserError
from selffilter.experiments.grid import BOOTSTRAP, END, Cell, expand
from selffilter.experiments.schema import Experiment, PoolSpec


def experiment(**fields: Any) -> Experiment:
    pools = tuple(PoolSpec(name, demo="openclipart") for name in fields.pop("pools", ("p",)))
    return Experiment("x", pools, **fields)


def test_every_method_on_every_pool_with_every_seed() -> None:
    jobs = expand(experiment(pools=("p", "q"), seeds=(3, 5), methods=("uniform", "loop")))
    assert [str(job.cell) for job in jobs] == [
        f"{pool}/{method}-seed{seed}"
        for seed in (3, 5)
        for pool in ("p", "q")
        for method in ("loop", "uniform")
    ]
    assert all(job.until == END and job.asked for job in jobs)


def test_a_fork_alone_brings_no_more_than_the_loops_bootstrap() -> None:
    loop, fork = expand(experiment(methods=("top_only",)))
    assert (loop.cell.method, loop.until, loop.asked) == ("loop", BOOTSTRAP, False)
    assert fork.forks
    assert fork.source == loop.cell
    assert fork.waits_for == ()


def test_a_run_from_nothing_brings_nothing() -> None:
    (oracle,) = expand(experiment(methods=("oracle",)))
    assert not oracle.forks


def test_what_is_made_from_the_loop_waits_for_its_end() -> None:
    loop, fixed = expand(experiment(methods=("fixed_set",)))
    assert (loop.until, loop.asked) == (END, False)
    assert fixed.waits_for == (loop.cell,)
    assert not fixed.forks


def test_a_placeholder_alone_makes_a_method_wait() -> None:
    loop, random = expand(experiment(methods=("random_subset",)))
    assert loop.until == END
    assert random.forks
    assert random.waits_for == (loop.cell,)


def test_cross_fitting_brings_its_two_loops() -> None:
    a, b, whole = expand(experiment(methods=("cross_fit",)))
    assert [a.cell.method, b.cell.method] == ["cross_fit_a", "cross_fit_b"]
    assert whole.waits_for == (a.cell, b.cell)
    assert [job.asked for job in (a, b, whole)] == [False, False, True]


def test_the_loop_goes_to_its_end_whoever_asks_first() -> None:
    jobs = expand(experiment(methods=("uniform", "fixed_set", "loop")))
    assert [(job.cell.method, job.until) for job in jobs] == [
        ("loop", END),
        ("uniform", END),
        ("fixed_set", END),
    ]


def test_some_methods_and_seeds_alone() -> None:
    jobs = expand(experiment(seeds=(0, 1, 2)), only=["oracle"], seeds=[2])
    assert [job.cell for job in jobs] == [Cell("p", "oracle", 2)]


def test_a_method_or_seed_that_there_is_not_is_refused() -> None:
    with pytest.raises(UserError, match=r"--only: 'orcale'.*Did you mean 'oracle'"):
        expand(experiment(), only=["orcale"])
    with pytest.raises(UserError, match="--seeds: 7 is not in this experiment; it has 0"):
        expand(experiment(), seeds=[7])


def test_methods_that_use_each_other_in_a_circle_are_refused() -> None:
    variants = {"a": {"uses": ["b"]}, "b": {"uses": ["a"]}}
    with pytest.raises(UserError, match="circle: a → b → a"):
        expand(experiment(methods=(), variants=variants))


def test_a_method_that_uses_one_that_there_is_not_is_refused() -> None:
    with pytest.raises(UserError, match="'a' uses 'nobody'"):
        expand(experiment(methods=(), variants={"a": {"uses": ["nobody"]}}))
